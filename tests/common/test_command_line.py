import inspect
from pathlib import Path
from typing import Any

import fire
import pytest
from monai.bundle import run
from monai.bundle.utils import ID_SEP_KEY

from scripts.common.command_line import CommandLine, Given, literal, parse_command_line
from scripts.common.errors import RequestError


def parsed(*words: str) -> CommandLine:
    return parse_command_line(["run", *words])


def as_fire(*words: str) -> dict[str, Any]:
    """What Fire gives MONAI."""
    found: dict[str, Any] = {}

    def record(*args: Any, **kwargs: Any) -> None:
        found.update(zip(inspect.signature(run).parameters, args, strict=False), **kwargs)

    record.__signature__ = inspect.signature(run)  # type: ignore[attr-defined]
    fire.Fire({"run": record}, command=["run", *words])
    return {name.replace("#", ID_SEP_KEY): value for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    "words",
    [
        ["training", "--config_file", "c.yaml", "--max_epochs", "3"],
        ["--config_file=c.yaml", "--run_id", "training", "-max_epochs", "-1", "--a-b=c=d"],
        ["training", "--config_file", "['a.yaml','b.yaml']", "--dry_run", "--a#b::c", "1e-3", "--x", "a,b"],
        ["training", "--config_file", "c.yaml", "--x=", "--y", "", "--z", "007", "-s", "-.5", "--q", "{a: b}"],
        ["training", "--config_file", "c.yaml", "--flag", "--other", "null", "--", "--verbose"],
    ],
)  # fmt: skip
def test_options_are_those_that_fire_finds(words: list[str]) -> None:
    line = parsed(*words)
    assert line.loose == ()
    assert {name: option.value for name, option in line.given.items()} == as_fire(*words)


def test_the_text_stays_as_it_was_typed() -> None:
    given = parsed("x", "--a", "1_000", "--b=2024", "--c").given
    assert given == {"run_id": Given("x", "x"), "a": Given(1000, "1_000"), "b": Given(2024, "2024"), "c": Given(True)}


@pytest.mark.parametrize(
    ("words", "loose"),
    [
        (["training", "--slides", "a.tif", "b.tif", "c.tif"], ("b.tif", "c.tif")),
        (["training", "b.tif"], ("b.tif",)),
        (["--run_id", "training", "b.tif"], ("b.tif",)),
        (["training", "--slides", "-", "b.tif"], ("-", "b.tif")),
        (["training", ""], ("",)),
        (["training", "--seed", "-1", "2"], ("2",)),
        (["training", "--", "--verbose", "more"], ("more",)),
    ],
)
def test_words_that_belong_to_no_option_are_refused(words: list[str], loose: tuple[str, ...]) -> None:
    line = parsed(*words)
    assert line.loose == loose
    with pytest.raises(RequestError, match=rf"left over on the command line: {loose[0]!r}.*slides/\*\.tif"):
        line.require_once()


def test_many_words_are_told_shortly() -> None:
    with pytest.raises(RequestError, match=r"'1.tif', '2.tif', '3.tif', \.\.\.; expected") as caught:
        parsed("training", "--slides", *(f"{index}.tif" for index in range(200))).require_once()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--max_epochs", "1", "--max-epochs=2"], "--max_epochs is given twice, '1' and '2': keep one"),
        (["x", "--a#b", "1", "--a::b", "1"], "--a#b is given twice, '1' and '1'"),
        (["x", "--run_id", "y", "--run_id", "z"], "--run_id is given twice"),
        (["x", "--config_file", "a.yaml", "--config_file", "b.yaml"], r"several files are one list: \"\['a.yaml','b.yaml'\]\""),
    ],
)  # fmt: skip
def test_an_option_that_is_given_twice_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        parsed(*words[words[1] == "--run_id" :]).require_once()


def test_a_file_of_arguments_lies_below_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "arguments.yaml"
    file.write_text("max_epochs: 3\nseed: 1\na#b: 2\n", encoding="utf-8")
    given = parsed("x", "--args_file", str(file), "--seed", "7", "--max_epochs", "None").given
    assert given["seed"] == Given(7, "7") and given["max_epochs"] == Given(None, "None")
    assert given[f"a{ID_SEP_KEY}b"] == Given(2)


def test_other_commands_have_no_options() -> None:
    assert parse_command_line([]).given == {} == parse_command_line(["download", "--name", "x"]).given


@pytest.mark.parametrize("text", ["{[]: 1}", "[" * 300, "-" * 5000 + "1", "a\tb", "'"])
def test_texts_that_fire_cannot_read(text: str) -> None:
    assert literal(text) == text
