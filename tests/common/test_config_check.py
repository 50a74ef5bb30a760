from pathlib import Path
from typing import Any

import pytest

from scripts.common.config_check import require_sound
from scripts.common.config_files import CONFIGS
from scripts.common.errors import RequestError

CONFIG = """
batch_size: 4
table: {count: "$@batch_size * 2"}
loader:
  _target_: torch.utils.data.DataLoader
  dataset: [1, 2]
  batch_size: "@batch_size"
flip:
  _target_: RandFlipd
  keys: [v]
  prob: 0.5
training: ["$@loader", "$@table#count + (@flip is None)"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def overlay(folder: Path, text: str) -> Path:
    path = folder / "overlay.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_sound_config_passes(config: Path, tmp_path: Path) -> None:
    require_sound([str(config)], {})
    more = overlay(tmp_path, "loader#batch_size: 2\n+training: ['$@extra']\nextra: $@table.items()\n")
    require_sound([str(config), str(more)], {"batch_size": 3})


@pytest.mark.parametrize(
    ("text", "place", "fault"),
    [
        (
            "loader#batch_size: '@batchsize'",
            "loader#batch_size",
            "refers to @batchsize, which is not there; the nearest is @batch_size",
        ),
        ("+training: ['$@loder']", "training#2", "refers to @loder, which is not there; the nearest is @loader"),
        ("loader#dataset: '@xyz'", "loader#dataset", "refers to @xyz, which is not there"),
        ("flip#_target_: RandFlpd", "flip#_target_", "there is no RandFlpd; the nearest is RandFlipd"),
        ("flip#prb: 1", "flip#prb", "RandFlipd takes no argument prb; the nearest is prob"),
        ("loader#_target_: tortch.DataLoader", "loader#_target_", "there is no tortch.DataLoader"),
        (
            "loader#_target_: torch.utils.data.DataLoder",
            "loader#_target_",
            "there is no torch.utils.data.DataLoder; the nearest is torch.utils.data.DataLoader",
        ),
    ],
)
def test_a_mistake_is_told_with_file_id_and_nearest_name(
    config: Path, tmp_path: Path, text: str, place: str, fault: str
) -> None:
    more = overlay(tmp_path, text)
    with pytest.raises(RequestError) as caught:
        require_sound([str(config), str(more)], {})
    assert str(caught.value) == f"{more}: {place}: {fault}"


@pytest.mark.parametrize(
    ("stack", "argument", "target"),
    [
        (("baselines/dsmil.yaml", "raw_patches.yaml"), "patch_network", "scripts.baselines.dsmil.Dsmil"),
        (("baselines/wang.yaml", "recommended.yaml"), "head", "scripts.baselines.supervised.HeatMapForest"),
        (("raw_patches.yaml",), "patch_network", "scripts.dsnet.network.DSNet"),
        (("recommended.yaml", "raw_patches.yaml"), "patch_network", "scripts.dsnet.network.DSNet"),
        (("segment_train.yaml", "raw_patches.yaml"), "patch_network", "scripts.dsnet.segmentation.DSNetSegmentation"),
    ],
)
def test_an_overlay_on_a_network_that_it_is_not_for(stack: tuple[str, ...], argument: str, target: str) -> None:
    """A network hands some of its arguments on to its base class, which takes no others."""
    with pytest.raises(
        RequestError, match=f"network_def#{argument}: {target} takes no argument {argument}; (expected|the nearest)"
    ):
        require_sound([str(CONFIGS / name) for name in ("train.yaml", *stack)], {})
    require_sound([str(CONFIGS / name) for name in ("train.yaml", "baselines/chen.yaml", "raw_patches.yaml")], {})


def test_all_mistakes_are_told_at_once(config: Path, tmp_path: Path) -> None:
    more = overlay(tmp_path, "flip#prb: 1\nflip#spatial: 0\nloader#dataset: '@xyz'\n")
    with pytest.raises(RequestError) as caught:
        require_sound([str(config), str(more)], {})
    assert str(caught.value).count("overlay.yaml: ") == 3


@pytest.mark.parametrize("override", [{"loader::batch_size": "@batchsize"}])
def test_the_command_line_is_named(config: Path, override: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"^the command line: loader#batch_size: refers to @batchsize"):
        require_sound([str(config)], override)
