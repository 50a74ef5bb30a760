import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle.utils import ID_SEP_KEY

from scripts.common.command_line import parse_command_line
from scripts.common.config_files import CONFIGS, bases_of, merged
from scripts.common.config_help import read_options
from scripts.common.errors import RequestError
from scripts.common.option_table import options_of
from scripts.common.request import Request, nearest, read_request

TRAIN = """
bundle_root: .
max_epochs: 2
learning_rate: 1.0e-4
heat_maps: true
slides: null
output_dir: $@bundle_root + '/out'
classes: null
batch_size: $1 + 1
trainer: {_target_: torch.nn.Linear, in_features: 1, out_features: "@max_epochs", bias: true}
steps: [{name: a, rate: 0.5}]
options: {_target_: scripts.common.options.check_options, _mode_: callable}
training: ["$@options()", "$@trainer"]
run: "%training"
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN, encoding="utf-8")
    return str(path)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return tmp_path / "overlay.yaml"


def request(config: str, *words: str) -> Request:
    return read_request(parse_command_line(["run", "training", "--config_file", config, *words]))


def refusal(config: str, *words: str) -> str:
    with pytest.raises(RequestError) as caught:
        request(config, *words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--max_epochs", "3"], {}),
        (["--max_epochs", "3.0"], {"max_epochs": 3}),
        (["--learning_rate", "1e-3", "--heat_maps", "True"], {}),
        (["--learning_rate", "1"], {"learning_rate": 1.0}),
        (["--heat_maps", "no"], {"heat_maps": False}),
        (["--heat_maps=off"], {"heat_maps": False}),
        (["--heat_maps"], {}),
        (["--noheat_maps"], {}),
        (["--slides", "2024", "--output_dir", "007"], {"slides": "2024"}),
        (["--slides", "None"], {}),
        (["--slides", "null"], {"slides": None}),
        (["--classes", "normal,tumor"], {"classes": ["normal", "tumor"]}),
        (["--classes", "['normal','tumor']"], {}),
        (["--trainer#bias", "no"], {"trainer::bias": False}),
        (["--trainer#in_features", "4"], {}),
        (["--trainer::out_features", "1e1"], {"trainer::out_features": 10}),
        (["--steps#0#rate", "1"], {"steps::0::rate": 1.0}),
        (["--batch_size", "$2 * 3"], {}),
        (["--max-epochs=1", "--", "--verbose"], {}),
        (["--init_id", "run", "--logging_file", "x.conf", "--workflow_type", "train"], {}),
        (["--init_id", "initialize", "--final_id", "finalize"], {}),
        (["--tracking", "mlflow", "--experiment_name", "first"], {}),
    ],
)
def test_what_monai_takes_for_another_value_is_put_right(
    config: str, words: list[str], changed: dict[str, object]
) -> None:
    assert request(config, *words).changed == changed


def test_kinds_are_kept(config: str) -> None:
    values = request(config, "--heat_maps", "no", "--trainer#bias", "1", "--learning_rate", "2").changed
    assert [type(value) for value in values.values()] == [float, bool, bool]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max_epochs", "ten"], "--max_epochs 'ten': expected a whole number, 1 or more"),
        (["--max_epochs", "1.5"], "--max_epochs '1.5': expected a whole number"),
        (["--max_epochs", "null"], "--max_epochs 'null': expected a whole number"),
        (["--max_epochs", "None"], "--max_epochs 'None': expected a whole number"),
        (["--max_epochs"], "--max_epochs: no value, expected a whole number, 1 or more: write it behind the option"),
        (["--max_epochs", ""], "--max_epochs '': expected a whole number"),
        (["--learning_rate", "1e-3x"], "--learning_rate '1e-3x': expected a number over 0"),
        (["--heat_maps", "maybe"], "--heat_maps 'maybe': expected true or false"),
        (["--slides", ""], "--slides '': expected a path"),
        (["--slides"], "--slides: no value, expected a path"),
        (
            ["--slides", "$open('x')"],
            "begins with $, which would be evaluated; expected a path: write ./ or its folder before it",
        ),
        (["--classes", "a,,b"], "--classes 'a,,b': expected a text, in a list: expected class names"),
        (["--trainer#in_features", "x"], "--trainer#in_features 'x': expected a whole number"),
        (["--trainer#bias", "maybe"], "--trainer#bias 'maybe': expected true or false"),
        (["--trainer#out_features", "0"], "--trainer#out_features '0': expected a whole number, 1 or more"),
        (["--steps#0#rate", "fast"], "--steps#0#rate 'fast': expected a number"),
        (["--steps#0#rate", "null"], "--steps#0#rate 'null': expected a number"),
        (["--trainer", "5"], "--trainer 5: expected a component or null: it holds other ids, set one of those"),
        (["--steps", "x"], "--steps: a list that the config is made of, expected in an overlay alone: leave it out"),
        (["--steps", "[]"], "--steps: a list that the config is made of"),
        (["--steps", "null"], "--steps: a list that the config is made of"),
        (["--steps", "$[]"], "--steps: a list that the config is made of"),
        (
            ["--max_epoch", "1"],
            "unknown option --max_epoch, the nearest known one is --max_epochs (options are the names in ",
        ),
        (["--lr", "1"], "unknown option --lr, the nearest known one is --learning_rate"),
        (["--trainer#sizes", "1"], "unknown option --trainer#sizes, the nearest known one is --trainer#"),
        (["--max_epoch", "1", "--bundel_root", "x"], "--max_epochs; unknown option --bundel_root"),
        (["--experiment_name", "first"], "unknown option --experiment_name"),
        (["b.tif"], "left over on the command line: 'b.tif'"),
        (["--max_epochs", "1", "--max_epochs", "2"], "--max_epochs is given twice, '1' and '2': keep one"),
        (["--init_id", "begin"], "init_id 'begin': there is no such id in "),
        (["--final_id", "initialize"], "final_id 'initialize': there is no such id in "),
        (["--trainer#in_features", "@nothing"], "refers to @nothing, which is not there"),
    ],
)
def test_what_is_refused(config: str, words: list[str], said: str) -> None:
    message = refusal(config, *words)
    assert said in message and "\n" not in message


def test_all_wrong_values_are_told_at_once(config: str) -> None:
    message = refusal(config, "--max_epochs", "0", "--learning_rate", "0")
    assert message.count("expected") == 2 and "--max_epochs '0'" in message and "--learning_rate '0'" in message


def test_an_id_to_run_that_is_not_there(config: str) -> None:
    words = ["run", "trainng", "--config_file", config]
    with pytest.raises(
        RequestError,
        match=r"run_id 'trainng': there is no such id .*; the nearest is training; expected one of training, run",
    ):
        read_request(parse_command_line(words))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("learning_rate: 1e-3", {"learning_rate": 0.001}),
        ("heat_maps: no", {}),
        ("heat_maps: 'off'", {"heat_maps": False}),
        ("slides: 2024", {"slides": "2024"}),
        ("classes: a,b", {"classes": ["a", "b"]}),
        ("+trainer: {in_features: '3'}", {"trainer::in_features": 3}),
        ("trainer#in_features: '3'", {"trainer::in_features": 3}),
        ("trainer: {_target_: torch.nn.Identity, in_features: x}", {}),
        ("trainer: null", {}),
        ("max_epochs: $1 + 1\nslides: $'a'", {}),
    ],
)  # fmt: skip
def test_a_file_of_ones_own_is_read_by_the_same_types(
    config: str, overlay: Path, text: str, changed: dict[str, object]
) -> None:
    overlay.write_text(text, encoding="utf-8")
    assert request(f"['{config}','{overlay}']").changed == changed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate: 1e-3x", "learning_rate '1e-3x': expected a number over 0"),
        ("max_epochs: null", None),
        ("heat_maps: 2", "heat_maps 2: expected true or false"),
        ("slides: no", "slides False: expected a path"),
        ("trainer#bias: 7", "trainer#bias 7: expected true or false"),
        ("+trainer: {in_features: [1]}", "trainer#in_features [1]: expected a whole number"),
        ("training: 3", "training 3: expected a list or null"),
    ],
)
def test_a_file_of_ones_own_is_named(config: str, overlay: Path, text: str, said: str | None) -> None:
    overlay.write_text(text, encoding="utf-8")
    files = f"['{config}','{overlay}']"
    if said is None:  # whoever writes null in a file means it
        request(files)
    else:
        assert refusal(files) == f"{overlay}: {said}"


def test_the_command_line_goes_before_the_files(config: str, overlay: Path) -> None:
    overlay.write_text("max_epochs: '7'\n", encoding="utf-8")
    assert request(f"['{config}','{overlay}']").changed == {"max_epochs": 7}
    assert request(f"['{config}','{overlay}']", "--max_epochs", "3").changed == {}


@pytest.mark.parametrize(("text", "changed"), [("true", True), ("yes", True), ("True", None), ("no", False)])
def test_any_component_may_be_disabled(text: str, changed: bool | None) -> None:
    """MONAI's own word for it, which no config has to say; of its own it takes ``true`` for a text and ``yes`` for no yes."""
    for name in ("early_stopping", "standardise", "train#handlers#3", "validate#handlers#0"):
        asked = request(f"{CONFIGS}/train.yaml", f"--{name}#_disabled_", text)
        expected = {} if changed is None else {f"{name.replace('#', ID_SEP_KEY)}{ID_SEP_KEY}_disabled_": changed}
        assert asked.changed == expected


def test_what_may_not_be_disabled() -> None:
    """Neither by another value than yes or no, nor what is no component."""
    assert "expected true or false" in refusal(f"{CONFIGS}/train.yaml", "--early_stopping#_disabled_", "maybe")
    for name in ("seed", "train", "early_stoping"):
        assert f"unknown option --{name}#_disabled_" in refusal(f"{CONFIGS}/train.yaml", f"--{name}#_disabled_", "true")


def test_names_of_overlays_are_known(config: str, overlay: Path) -> None:
    overlay.write_text("extra: 1\n", encoding="utf-8")
    assert "--extra" in refusal(config, "--extra", "2")
    files = f"['{config}','{overlay}']"
    assert request(files, "--extra", "2").changed == {}
    assert "--extra 'x': expected a whole number" in refusal(files, "--extra", "x")


def test_options_of_a_file_of_arguments_are_checked_too(config: str, tmp_path: Path) -> None:
    file = tmp_path / "arguments.yaml"
    line = parse_command_line(["run", "training", "--args_file", str(file)])
    for text, said in (
        ("max_epoch: 3", "--max_epoch, the nearest"),
        ("max_epochs: 0", "--max_epochs 0: expected"),
        ("slides: true", "path"),
    ):
        file.write_text(f"config_file: {config}\n{text}\n", encoding="utf-8")
        with pytest.raises(RequestError, match=said):
            read_request(line)
    file.write_text(f"config_file: {config}\nslides: 2024\n", encoding="utf-8")
    assert read_request(line).changed == {"slides": "2024"}


def test_what_monai_computes_is_checked_when_it_has(config: str) -> None:
    computed = request(config, "--max_epochs", "$2 * 3", "--trainer#in_features", "@max_epochs").computed
    assert list(computed) == ["max_epochs", f"trainer{ID_SEP_KEY}in_features"]


def test_several_processes_need_what_shares_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(CONFIGS / name) for name in ("train.yaml", "multi_gpu_train.yaml")]
    for world, refused in (("1", False), ("2", True), ("", False), ("x", False)):
        monkeypatch.setenv("WORLD_SIZE", world)
        if refused:
            assert "WORLD_SIZE is 2" in refusal(files[0]) and "multi_gpu_train.yaml" in refusal(files[0])
        else:
            request(files[0])
    monkeypatch.setenv("WORLD_SIZE", "2")
    request(str(files))


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("lr", ["lr_scheduler", "learning_rate", "slides"], "learning_rate"),
        ("bs", ["balance", "batch_size"], "batch_size"),
        ("max_epoch", ["max_epochs", "model"], "max_epochs"),
        ("workers", ["num_workers", "model"], "num_workers"),
        ("xyz", ["model"], "model"),
    ],
)
def test_the_nearest_name(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


ODD = [
    "", " ", "null", "None", "nan", "inf", "-1", "0", "1", "1.5", "1e-3", "1e-3x", "1e400", "9" * 400, "ten", "true", "no", "off", "maybe",
    "$", "$x", "$1/0", "@", "@x", "@seed", "%", "%x", "a,b", "0,64", "64,0", ",", "[", "[]", "[1,", "{}", "{a: 1}", "{[]: 1}", "(1, 2)",
    "2024", "007", "0x10", "1_000", "cpu", "cuda", "cuda:99", "gpu", "a b", "'", '"', "\\",
    "a=b", "-", "--", "-x", "*.tif", "ü", "日本", "\t",
    "a\nb", "x" * 3000, "[" * 200, "../..", "/", "2/8", "9/8", "auto", "1.7", "val", "train,val", "normal,tumor", "#", "a#b", "a::b",
]  # fmt: skip


def random_lines(count: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield command lines over all configs: right and wrong names and values, odd texts, words left over and options given twice."""
    draw = random.Random(19)
    stacks = [
        [*(str(CONFIGS / base) for base in bases_of(str(path))[:1]), str(path)]
        for path in sorted(CONFIGS.rglob("*.yaml"))
    ]
    configs = [merged(files)[""] for files in stacks]
    for _ in range(count):
        files, config = draw.choice(list(zip(stacks, configs, strict=True)))
        runs = [name for name, value in config.items() if isinstance(value, list)]
        names = [
            *options_of(config),
            *read_options(files),
            *(f"{name}#0" for name in runs),
            "lr",
            "help_me",
            "train#trainer#amp",
            "x#y",
        ]
        words = ["run", draw.choice([*runs, "run", "nothing", ""]), "--config_file", str(files)]
        for _ in range(draw.randrange(6)):
            name, text = draw.choice(names), draw.choice(ODD)
            words += draw.choice(
                [[f"--{name}", text], [f"--{name}={text}"], [f"--{name}"], [f"-{name}", text], [text], [f"--no{name}"]]
            )
        yield files, words


def test_random_command_lines_are_taken_or_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    taken = 0
    for files, words in random_lines(500):
        try:
            changed = read_request(parse_command_line(words)).changed
        except RequestError as error:
            assert "\n" not in str(error).replace("\n       ", " "), words
            assert (
                "expected" in str(error)
                or "keep one" in str(error)
                or "nearest" in str(error)
                or "not there" in str(error)
                or "renamed" in str(error)
            ), words
        else:
            taken += 1
            assert set(changed) <= {name.replace("#", ID_SEP_KEY) for name in changed}
            merged(files).update(changed)
    assert 20 < taken < 480


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_stage_checks_its_options_before_anything_else(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    check = "scripts.common.options.check_options"
    begin = config.get("initialize") or config["+initialize"]
    assert begin[1]["_target_"] == check
    for name, value in config.items():
        if isinstance(value, list) and "$@options()" in value:
            assert value[0] == "$@options()", name
    before = str(begin[:2])
    paths = [name for name in read_options([str(path)]) if f"@{name}" in before]
    assert paths in ([], ["bundle_root"]), "a path would be evaluated before it is checked"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optimizer#weight_decay", "-1"], "--optimizer#weight_decay '-1': expected a number, 0 or more"),
        (["--loss#balance", "maybe"], "--loss#balance 'maybe': expected true or false"),
        (["--table#channel_range", "4"], "--table#channel_range '4': expected two whole numbers"),
        (["--train#dataset#cache_rate", "1.5"], "--train#dataset#cache_rate '1.5': expected a number from 0 to 1"),
        (["--loss#balance", "null"], "--loss#balance 'null': expected true or false"),
        (
            ["--weight_decey", "1e-4"],
            "unknown option --weight_decey, the nearest known one is --optimizer#weight_decay",
        ),
        (
            ["--optimizer#weight_decey", "1"],
            "unknown option --optimizer#weight_decey, the nearest known one is --optimizer#w",
        ),
    ],
)
def test_values_of_components_are_options(words: list[str], said: str) -> None:
    assert refusal(str(CONFIGS / "train.yaml"), *words).startswith(said)


def test_values_of_components_may_be_null_where_the_config_says_so() -> None:
    words = ["--early_stopping#patience", "null", "--table#levels", "2", "--evaluated#share", "1"]
    changed = request(str(CONFIGS / "train.yaml"), *words).changed
    assert changed == {f"early_stopping{ID_SEP_KEY}patience": None, f"evaluated{ID_SEP_KEY}share": 1.0}
