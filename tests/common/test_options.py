import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.errors import RequestError, SlideError
from scripts.common.options import check_options, install_exit_codes, refuse_unknown, resolve_bundle_root
from scripts.common.words import set_in_config

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"

TRAIN = """
bundle_root: .
max_epochs: 2
trainer: {size: 1, handlers: [{name: a}], fast: true}
heat_maps: true
options: {_target_: scripts.common.options.check_options}
work: {_target_: probes.write, path: "$@bundle_root + '/out'", content: "$str(@max_epochs) + str(@trainer#size)"}
training: ["$@options", "$@work"]
"""
PROBES = """
from pathlib import Path
from scripts.common.errors import RequestError

def write(path, content):
    Path(path).write_text(content)
    if content == "91":
        raise RequestError("b.svs: broken")
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    (tmp_path / "configs" / "train.yaml").write_text(TRAIN)
    (tmp_path / "configs" / "overlay.yaml").write_text("trainer#speed: 3\nextra: 1\n")
    (tmp_path / "probes.py").write_text(PROBES)
    (tmp_path / "scripts").symlink_to(BUNDLE / "scripts", target_is_directory=True)
    return tmp_path


@pytest.fixture
def config(bundle: Path) -> str:
    return str(bundle / "configs" / "train.yaml")


def run_cli(bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = ["run", "training", "--bundle_root", str(bundle), "--config_file", "configs/train.yaml", *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "monai.bundle", *words]
    return subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, timeout=120)


def test_command_line_refuses_a_misspelt_option_and_writes_nothing(bundle: Path) -> None:
    result = run_cli(bundle, "--max_epoch", "1")
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1] == (
        "error: unknown option --max_epoch, the nearest known one is --max_epochs "
        "(options are the names in configs/train.yaml)"
    )
    assert "Traceback" not in result.stderr
    assert not (bundle / "out").exists()


def test_command_line_takes_known_options(bundle: Path) -> None:
    result = run_cli(bundle, "--max_epochs", "7", "--trainer#size=5")
    assert result.returncode == 0, result.stderr
    assert (bundle / "out").read_text() == "75"


@pytest.mark.parametrize(
    ("word", "value"),
    [("false", "False"), ("False", "False"), ("TRUE", "True"), ("null", "None"), ("falsely", "falsely")],
)
def test_command_line_takes_the_configs_words(bundle: Path, word: str, value: str) -> None:
    """Fire knows Python's alone, and a text is true."""
    shown = "$str(@heat_maps) + ' ' + str(@trainer#fast) + ' ' + str(@trainer['fast'])"
    result = run_cli(bundle, "--heat_maps", word, "--trainer#fast", word, "--work#content", shown)
    assert result.returncode == 0, result.stderr
    assert (bundle / "out").read_text() == f"{value} {value} {value}"


def test_request_error_of_a_component_ends_with_one_line_and_code_two(bundle: Path) -> None:
    result = run_cli(bundle, "--max_epochs", "9")
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1] == "error: b.svs: broken"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--max_epochs", "1"],
        ["--max-epochs=1"],
        ["-max_epochs", "1"],
        ["--max_epochs"],
        ["--trainer#size", "-1"],
        ["--trainer::size=4"],
        ["--trainer#handlers#0#name", "b"],
        ["--init_id", "begin", "--logging_file", "x.conf", "--workflow_type", "train"],
        ["--tracking", "mlflow", "--experiment_name", "first"],
        ["--max_epochs", "1", "--", "--verbose"],
    ],
)
def test_every_spelling_of_a_known_option_passes(config: str, options: list[str]) -> None:
    refuse_unknown(["run", "training", "--config_file", config, *options])


@pytest.mark.parametrize(
    ("options", "unknown", "nearest"),
    [
        (["--max_epoch", "1"], "max_epoch", "max_epochs"),
        (["--max-epoch=1"], "max_epoch", "max_epochs"),
        (["-maxepochs", "1"], "maxepochs", "max_epochs"),
        (["--max_epoch"], "max_epoch", "max_epochs"),
        (["--max_epoch", "None"], "max_epoch", "max_epochs"),
        (["--trainer#sizes", "1"], "trainer#sizes", "trainer#size"),
        (["--trainer::handlers::0::nam", "1"], "trainer#handlers#0#nam", "trainer#handlers#0#name"),
        (["--trainer#handlers#1#name", "1"], "trainer#handlers#1#name", "trainer#handlers#0#name"),
        (["--loging_file", "x"], "loging_file", "logging_file"),
        (["--extra", "1"], "extra", "trainer"),
        (["--experiment_name", "first"], "experiment_name", None),
    ],
)
def test_unknown_option_is_refused_with_the_nearest_name(
    config: str, options: list[str], unknown: str, nearest: str | None
) -> None:
    with pytest.raises(RequestError) as error:
        refuse_unknown(["run", "training", "--config_file", config, *options])
    assert f"unknown option --{unknown}, the nearest known one is --{nearest or ''}" in str(error.value)
    assert config in str(error.value)


def test_all_unknown_options_are_named_at_once(config: str) -> None:
    with pytest.raises(RequestError, match=r"--max_epoch,.*--bundel_root,"):
        refuse_unknown(["run", "training", "--config_file", config, "--max_epoch", "1", "--bundel_root", "x"])


def test_names_of_overlays_are_known(bundle: Path, config: str) -> None:
    both = f"['{config}', '{bundle / 'configs' / 'overlay.yaml'}']"
    refuse_unknown(["run", "training", "--config_file", both, "--extra", "2", "--trainer#speed", "1"])
    with pytest.raises(RequestError, match=r"--trainer#sped, the nearest known one is --trainer#speed .*overlay\.yaml"):
        refuse_unknown(["run", "training", "--config_file", both, "--trainer#sped", "1"])


def test_options_of_an_args_file_are_checked_too(tmp_path: Path, config: str) -> None:
    args_file = tmp_path / "args.yaml"
    args_file.write_text(f"config_file: {config}\nmax_epoch: 3\n")
    with pytest.raises(RequestError, match="--max_epoch, the nearest known one is --max_epochs"):
        refuse_unknown(["run", "training", "--args_file", str(args_file)])
    args_file.write_text(f"config_file: {config}\nmax_epochs: 3\n")
    refuse_unknown(["run", "training", "--args_file", str(args_file)])


def test_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    hook = sys.excepthook
    monkeypatch.setattr(sys, "argv", ["pytest", "run", "--config_file", config, "--max_epoch", "1"])
    check_options()
    assert sys.excepthook is hook


def test_request_error_anywhere_in_the_chain_exits_with_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passed_on: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: passed_on.append(error))
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # as torch.distributed does around the hook
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # given back afterwards
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # this process keeps its own
    install_exit_codes()

    def outcome(error: BaseException) -> int | str | None:
        with pytest.raises(SystemExit) as end:
            sys.excepthook(type(error), error, None)
        return end.value.code

    request, slide = RequestError("wrong"), SlideError("broken")
    slide.__context__ = request
    wrapped = RuntimeError("long")
    wrapped.__cause__ = slide
    assert outcome(wrapped) == 2
    assert capsys.readouterr().err == "error: wrong\n"
    wrapped.__cause__ = SlideError("broken")
    assert outcome(wrapped) == 1

    dealt_with = RuntimeError("other")
    dealt_with.__context__, dealt_with.__suppress_context__ = request, True
    sys.excepthook(RuntimeError, dealt_with, None)
    assert passed_on == [dealt_with]


def test_bundle_root_becomes_absolute(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)
    assert resolve_bundle_root(bundle.name) == str(bundle)


def test_bundle_root_is_by_default_the_folder_of_the_code(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another bundle lies in the working directory."""
    monkeypatch.chdir(bundle)
    assert resolve_bundle_root(".") == str(BUNDLE)


def test_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=rf"{tmp_path}: holds no configs/metadata.json.*--bundle_root"):
        resolve_bundle_root(str(tmp_path))


def test_help_tells_the_options_and_does_nothing(bundle: Path) -> None:
    result = run_cli(bundle, "--help")
    assert result.returncode == 0, result.stderr
    assert "  --max_epochs 2" in result.stdout
    assert not (bundle / "out").exists()


def test_a_config_that_cannot_work_is_refused_before_any_work(bundle: Path) -> None:
    result = run_cli(bundle, "--work#content", "$str(@max_epoch)")
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1] == (
        "error: the command line: work#content: refers to @max_epoch, which is not there; the nearest is @max_epochs"
    )
    assert not (bundle / "out").exists()


def test_words_that_cannot_be_put_into_the_config_are_refused() -> None:
    """Rather than taken for texts, of which "false" is true."""
    set_in_config({})
    with pytest.raises(RequestError, match=r"--train#resume: .* write True, False or None"):
        set_in_config({"train::resume": False})


def test_a_path_on_the_command_line_is_text_and_never_runs(bundle: Path) -> None:
    config = "slides: null\noptions: {_target_: scripts.common.options.check_options}\n"
    config += "work: {_target_: probes.write, path: out, content: $repr(@slides)}\ntraining: ['$@options', '$@work']\n"
    (bundle / "configs" / "train.yaml").write_text(config + "bundle_root: .\n")
    result = run_cli(bundle, "--slides", "$open('planted', 'w')")
    assert result.returncode == 2 and not (bundle / "planted").exists() and not (bundle / "out").exists()
    assert [
        line
        for line in result.stderr.splitlines()
        if line.startswith("error: --slides \"$open('planted', 'w')\": begins with $")
    ]
    result = run_cli(bundle, "--slides", "2024")
    assert (result.returncode, (bundle / "out").read_text()) == (0, "'2024'"), result.stderr
