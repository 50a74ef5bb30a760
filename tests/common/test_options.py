import io
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import pytest
from command_server import command_server
from monai.bundle import ConfigWorkflow

from scripts.common.command_line import parse_command_line
from scripts.common.errors import RequestError, SlideError
from scripts.common.options import check_options, resolve_bundle_root
from scripts.common.process import install_exit_codes

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"

TRAIN = """
imports: [$import os, $import sys]
bundle_root: .
max_epochs: 2
trainer: {size: 1, handlers: [{name: a}], fast: true}
heat_maps: true
options: {_target_: scripts.common.options.check_options, _mode_: callable}
work: {_target_: probes.write, path: "$@bundle_root + '/out'", content: "$str(@max_epochs) + str(@trainer#size)"}
initialize:
  - $sys.path.insert(1, str(@bundle_root))
  - _target_: scripts.common.options.check_options
    _disabled_: $not os.path.isdir(str(@bundle_root) + '/scripts/common')
  - $print('initialized')
training: ["$@options()", "$@work"]
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
    (tmp_path / "probes.py").write_text(PROBES)
    (tmp_path / "scripts").symlink_to(BUNDLE / "scripts", target_is_directory=True)
    return tmp_path


@pytest.fixture
def config(bundle: Path) -> str:
    return str(bundle / "configs" / "train.yaml")


def words_of(bundle: Path, options: tuple[str, ...], run_id: str, root: str) -> list[str]:
    return ["run", run_id, "--bundle_root", root or str(bundle), "--config_file", "configs/train.yaml", *options]


def run_cli(bundle: Path, *options: str, run_id: str = "training") -> subprocess.CompletedProcess[str]:
    return command_server().run("-m", "monai.bundle", *words_of(bundle, options, run_id, ""), cwd=bundle)


def test_command_line_refuses_what_cannot_work_and_writes_nothing(bundle: Path) -> None:
    result = run_cli(bundle, "--max_epoch", "1")
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1] == (
        "error: unknown option --max_epoch, the nearest known one is --max_epochs "
        "(options are the names in configs/train.yaml)"
    )
    assert "Traceback" not in result.stderr
    assert not (bundle / "out").exists()


def test_what_is_added_to_the_check_and_a_word_left_over(bundle: Path) -> None:
    """MONAI takes the word for the id of what is to be done first, so the run list checks alone."""
    result = run_cli(bundle, "--options#x", "abc", "--seed", "0", "left")
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: left over on the command line: 'left'; expected")
    assert "Traceback" not in result.stderr


def test_command_line_takes_known_options(bundle: Path) -> None:
    shown = "$str(@max_epochs) + ' ' + str(@heat_maps)"
    result = run_cli(bundle, "--max_epochs", "7.0", "--heat_maps=no", "--work#content", shown)
    assert result.returncode == 0, result.stderr
    assert (bundle / "out").read_text() == "7 False"


def test_an_id_that_is_not_there_ends_in_one_line(bundle: Path) -> None:
    """MONAI itself refuses it, with a traceback, but only after ``initialize``."""
    result = run_cli(bundle, run_id="trainng")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "run_id 'trainng': there is no such id in configs/train.yaml; the nearest is training" in result.stderr


@pytest.fixture
def run_here(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the config in this process as its command line would; what it wrote, or why it was refused."""

    def run(*options: str, root: str = "", run_id: str = "training") -> str:
        words = words_of(bundle, options, run_id, root)
        monkeypatch.chdir(bundle)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "argv", [str(Path(monai.bundle.__file__).with_name("__main__.py")), *words])
        monkeypatch.setattr("scripts.common.options.install_exit_codes", lambda go_on: None)
        given = {name: option.value for name, option in parse_command_line(words).given.items()}
        try:
            stage = ConfigWorkflow(logging_file=False, **given)
            stage.initialize()
            stage.run()
        except (RuntimeError, RequestError) as error:
            assert not (bundle / "out").exists()
            return str(error if isinstance(error, RequestError) else error.__cause__)
        return (bundle / "out").read_text()

    return run


@pytest.mark.parametrize(
    ("word", "value"),
    [("false", "False"), ("no", "False"), ("off", "False"), ("TRUE", "True"), ("1", "True")],
)
def test_the_words_of_yaml_mean_what_they_say(run_here: Callable[..., str], word: str, value: str) -> None:
    """Fire knows Python's alone, and a text is true."""
    shown = "$str(@heat_maps) + ' ' + str(@trainer#fast) + ' ' + str(@trainer['fast'])"
    assert run_here("--heat_maps", word, "--trainer#fast", word, "--work#content", shown) == f"{value} {value} {value}"


def test_a_config_that_a_stage_runs_is_left_alone(run_here: Callable[..., str], bundle: Path) -> None:
    """The command line is that of the stage: here ``heat_maps`` is no option of the other config."""
    inner = "options: {_target_: scripts.common.options.check_options, _mode_: callable}\ntraining: ['$@options()']\n"
    (bundle / "configs" / "inner.yaml").write_text(inner)
    probes = (bundle / "probes.py").read_text() + (
        "\ndef run_inner(path, content):\n    from monai.bundle import ConfigWorkflow\n    write(path, content)\n"
        "    inner = ConfigWorkflow('configs/inner.yaml', logging_file=False, run_id='training', workflow_type='train')\n"
        "    inner.initialize()\n    inner.run()\n"
    )
    (bundle / "more_probes.py").write_text(probes)
    assert run_here("--work#_target_", "more_probes.run_inner", "--heat_maps", "no") == "21"


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


def test_help_tells_the_options_and_does_nothing(
    bundle: Path, run_here: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run_here("--help")
    assert end.value.code == 0 and "  --max_epochs 2" in capsys.readouterr().out
    assert not (bundle / "out").exists()


def test_a_config_that_cannot_work_is_refused_before_any_work(run_here: Callable[..., str]) -> None:
    assert run_here("--work#content", "$str(@max_epoch)") == (
        "the command line: work#content: refers to @max_epoch, which is not there; the nearest is @max_epochs"
    )


def test_a_path_on_the_command_line_is_text_and_never_runs(bundle: Path, run_here: Callable[..., str]) -> None:
    config = "slides: null\noptions: {_target_: scripts.common.options.check_options, _mode_: callable}\n"
    config += (
        "work: {_target_: probes.write, path: out, content: $repr(@slides)}\ntraining: ['$@options()', '$@work']\n"
    )
    (bundle / "configs" / "train.yaml").write_text(config + "bundle_root: .\n")
    refusal = run_here("--slides", "$open('planted', 'w')")
    assert not (bundle / "planted").exists()
    assert refusal.startswith("--slides \"$open('planted', 'w')\": begins with $")
    assert run_here("--slides", "2024") == "'2024'"


def test_a_value_of_the_wrong_kind_is_refused_before_anything(
    run_here: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("--max_epochs", "ten", "--heat_maps", "maybe") == (
        "--max_epochs 'ten': expected a whole number, 1 or more; --heat_maps 'maybe': expected true or false"
    )
    assert "initialized" not in capsys.readouterr().out


def test_a_wrong_bundle_root_is_left_to_the_run_list(
    run_here: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("--max_epochs", "ten", root="elsewhere").startswith("--max_epochs 'ten': expected")
    assert "initialized" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$2 + 1", "31"),
        (
            "$nothing",
            "--max_epochs: it cannot be computed (name 'nothing' is not defined), expected a whole number, 1 or more",
        ),
        ("$1 / 2", "--max_epochs is computed as 0.5: expected a whole number, 1 or more"),
    ],
)
def test_what_monai_computes_is_checked(run_here: Callable[..., str], text: str, said: str) -> None:
    assert run_here("--max_epochs", text) == said


@pytest.mark.filterwarnings("ignore:Can.t merge entry")
def test_an_overlay_alone_is_refused_whatever_is_run(run_here: Callable[..., str], bundle: Path) -> None:
    """MONAI loads it, and the check comes before MONAI finds that there is nothing to run."""
    for name in ("segment_train.yaml", "multi_gpu_train.yaml", "evaluate.yaml"):
        (bundle / "configs" / "train.yaml").write_text(
            (BUNDLE / "configs" / name).read_text(encoding="utf-8"), encoding="utf-8"
        )
        assert run_here(run_id="evaluating").startswith("train.yaml is an overlay on train.yaml: name both")
