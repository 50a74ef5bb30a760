import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
from monai.bundle.utils import ID_SEP_KEY

from scripts.common import option_words
from scripts.common.config_files import CONFIGS, bases_of, merged
from scripts.common.config_help import read_options
from scripts.common.errors import RequestError
from scripts.common.option_table import OF_STAGE, OPTIONS, Others, checked, named, options_of
from scripts.common.option_types import MARKS, PathText, Whole, read_as
from scripts.common.option_words import Cam, Precision, TissueMethod, words
from scripts.common.request import options_meant
from scripts.dsnet.grad_cam import METHODS as CAM_METHODS
from scripts.encoding.engine import DTYPES
from scripts.report.words import METHODS as TISSUE_METHODS

ALL = sorted(CONFIGS.rglob("*.yaml"))
SHARED = {
    "slides", "dataset_dir", "output_dir", "max_epochs", "batch_size", "learning_rate", "num_workers", "device", "seed", "encoder",
    "resume", "replace",
}  # fmt: skip
"""Names that the contract shares between stages."""


def files_of(path: Path) -> list[str]:
    return [*(str(CONFIGS / base) for base in bases_of(str(path))[:1]), str(path)]


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_option_of_every_config_has_a_type_that_its_default_is_of(path: Path) -> None:
    parts = merged(files_of(path))
    config = parts[""]
    known = options_of(config)
    for name in read_options(files_of(path)):
        if "#" in name:
            default = parts[name.replace("#", ID_SEP_KEY)]
            is_number = isinstance(default, int | float) and not isinstance(default, bool)
            assert not is_number or named(name, known), f"{name}: say in option_table in which range it may lie"
            continue
        assert name in known, f"{name}: say in option_table what it may be"
        default = config[name]
        if default is not None and not (isinstance(default, str) and default.startswith(MARKS)):
            read = known[name].read(default)
            assert read == default and (type(read) is type(default) or isinstance(default, int)), name


@pytest.mark.parametrize(
    ("file", "name", "text", "expected"),
    [
        ("inference.yaml", "dataloader#batch_size", "2", "1, and no other number"),
        ("inference.yaml", "dataloader#num_workers", "1", "0, and no other number"),
        ("train_scae.yaml", "optimizers#paper#momentum", "0", "a number over 0 and under 1"),
        ("train_scae.yaml", "recipe#decoded", "-1", "a whole number, 1 or more"),
        ("encode.yaml", "settings#thumbnail_levels", "2147483648", "a whole number from 1 to 64"),
        ("train.yaml", "train#dataloader#collate_fn#multiple", "0", "a whole number from 1 to 64"),
        ("compare.yaml", "resamples", "2147483648", "a whole number from 1 to 1000000"),
    ],
)
def test_numbers_that_a_component_cannot_take_are_refused(file: str, name: str, text: str, expected: str) -> None:
    with pytest.raises(RequestError, match=f"{name} '{text}': expected {expected}"):
        options_meant([str(CONFIGS / file)], {name: text})


def test_the_table_has_no_option_that_is_in_no_config() -> None:
    known = {name for path in ALL for name in read_options([str(path)])}
    assert set(OPTIONS) <= known | {name.rpartition("#")[2] for name in known}
    assert {name for own in OF_STAGE.values() for name in own} <= known


def test_a_shared_name_means_the_same_everywhere() -> None:
    assert set(OPTIONS) >= SHARED
    assert not SHARED & {name for own in OF_STAGE.values() for name in own}


@pytest.mark.parametrize(("type_", "known"), [(Cam, CAM_METHODS), (Precision, DTYPES), (TissueMethod, TISSUE_METHODS)])
def test_what_is_kept_per_word_is_kept_for_each(type_: Any, known: Iterable[str]) -> None:
    assert words(type_) == tuple(known)


def test_words_are_listed_once() -> None:
    lists = {
        tuple(sorted(words(type_))): name for name, type_ in vars(option_words).items() if get_origin(type_) is Literal
    }
    again = []
    for path in (CONFIGS.parent / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple | ast.List | ast.Set) and path.name != "option_words.py":
                found = [part.value for part in node.elts if isinstance(part, ast.Constant)]
                if len(found) == len(node.elts) and (name := lists.get(tuple(sorted(map(str, found))))):
                    again.append(f"{path}:{node.lineno}: words({name})")
    assert not again


def test_an_option_that_means_something_else_in_one_stage() -> None:
    assert isinstance(options_of({})["folds"], Whole)
    assert isinstance(options_of({"cross_validating": []})["folds"], PathText)
    assert "train" not in options_of({}) and isinstance(options_of({"generating": []})["train"], Whole)


def test_options_of_another_stage() -> None:
    more = Others().read(
        "{'loss#balance': off, 'learning_rate': 1e-3, max_epochs: 7, classes: [a, b], 'evaluated#share': null, 'x#y': 3}"
    )
    assert more == {
        "loss#balance": False, "learning_rate": 0.001, "max_epochs": 7, "classes": ["a", "b"], "evaluated#share": None, "x#y": 3
    }  # fmt: skip
    for text, said in (
        ("{'loss#balance': 'maybe'}", "loss#balance 'maybe': expected true or false"),
        ("balance", "expected options of train.yaml"),
        ("{", "expected options of train.yaml"),
    ):
        with pytest.raises(ValueError, match=said):
            Others().read(text)


def test_components_check_by_the_same_table() -> None:
    assert checked("seed", 3) == 3 and checked("splits", "train") == ["train"]
    for name, text in (("seed", "3"), ("drop_pen", "no")):
        with pytest.raises(RequestError, match=rf"^{name} '{text}': expected"):
            checked(name, text)
    with pytest.raises(RequestError, match=r"^engine 'x': expected one of auto, torch, openvino$"):
        checked("engine", "x")
    assert checked("patience", None, null=True) is None
    with pytest.raises(RequestError, match=r"^patience 0: expected a whole number, 1 or more, or None$"):
        checked("patience", 0, null=True)
    with pytest.raises(RequestError, match=r"^sides 'x': expected a whole number$"):
        checked("sides", "x", Whole())


def test_a_number_that_slipped_does_not_fill_the_machine() -> None:
    known = options_of({"ablating": []})
    for name in ("num_workers", "train#dataloader#num_workers", "jobs", "cluster#workers"):
        with pytest.raises(ValueError, match=r"expected a whole number from [01] to 1024"):
            read_as(named(name, known), name, "2147483648")
    for name, most in (("batch_size", 65536), ("cells", 1000), ("network_def#projection", 16384)):
        with pytest.raises(ValueError, match=rf"expected a whole number from [14] to {most}"):
            read_as(named(name, known), name, "2147483648")
