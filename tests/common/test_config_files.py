from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts.common.config_files import CONFIGS, bases_of, merged, read_config, refuse_misplaced
from scripts.common.errors import RequestError

ALL = sorted(CONFIGS.rglob("*.yaml"))
OVERLAYS = [path for path in ALL if bases_of(str(path))]


def named(*names: str) -> list[str]:
    return [str(CONFIGS / name) for name in names]


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_file_is_a_stage_or_says_what_it_lies_on(path: Path) -> None:
    config = read_config(str(path))
    if bases_of(str(path)):
        assert "options" not in config and all((CONFIGS / base).is_file() for base in bases_of(str(path)))
    else:
        assert config["options"] == {"_target_": "scripts.common.options.check_options", "_mode_": "callable"}


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_an_overlay_alone_or_before_its_stage_is_refused(path: Path) -> None:
    """MONAI can read each alone, so that it is not MONAI that ends the run."""
    base = bases_of(str(path))[0]
    merged([str(path)])
    for files in ([str(path)], [str(path), str(CONFIGS / base)]):
        with pytest.raises(RequestError) as caught:
            refuse_misplaced(files)
        assert f"{path.name} is an overlay on {base}" in str(caught.value)
        assert ": name both, in this order" in str(caught.value) and "\n" not in str(caught.value)
    refuse_misplaced([str(CONFIGS / base), str(path)])


def test_an_overlay_on_a_stage_that_it_does_not_lie_on_is_refused() -> None:
    with pytest.raises(RequestError, match=r"evaluate\.yaml is an overlay on train\.yaml"):
        refuse_misplaced(named("encode.yaml", "evaluate.yaml"))
    with pytest.raises(RequestError, match=r"encode_nic\.yaml is an overlay on encode\.yaml or inference\.yaml"):
        refuse_misplaced(named("train.yaml", "encode_nic.yaml"))
    refuse_misplaced(named("inference.yaml", "encode_nic.yaml"))


def test_a_copy_of_a_stage_and_overlays_of_ones_own_pass(tmp_path: Path) -> None:
    mine, over = tmp_path / "mine.yaml", tmp_path / "over.yaml"
    mine.write_text((CONFIGS / "train.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    over.write_text("max_epochs: 3\n", encoding="utf-8")
    refuse_misplaced([str(mine), *named("recommended.yaml"), str(over)])


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    for files in (named("train.yaml", "evaluate.yaml", "evaluate.yaml"), named("train.yaml", "../configs/train.yaml")):
        with pytest.raises(RequestError, match=r"is named twice in --config_file: name it once"):
            refuse_misplaced(files)


def test_files_lie_on_each_other_as_in_monai() -> None:
    for files in (
        named("train.yaml"),
        named("train.yaml", "segment_train.yaml"),
        named("train.yaml", "multi_gpu_train.yaml"),
    ):
        assert merged(files)[""] == ConfigParser.load_config_files(files)


def test_what_was_read_is_not_shared() -> None:
    first = merged(named("train.yaml"))
    first["train"]["inferer"] = None
    assert merged(named("train.yaml"))["train"]["inferer"] is not None
