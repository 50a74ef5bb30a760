"""A config is a recipe: short, its shared names at the top, every other value in the component that it belongs to, each block told."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tiny_flow import CONFIGS

LINES = {"train.yaml": 180, "train_scae.yaml": 120, "inference.yaml": 110}
"""Most lines of a file."""

SHARED = {
    "bundle_root", "slides", "dataset_dir", "output_dir", "model", "encoder", "device", "seed", "max_epochs", "batch_size", "learning_rate",
    "num_workers", "resume", "replace", "dry_run",
}  # fmt: skip
"""Names that mean the same in every stage."""

OWN = {
    "train.yaml": {"classes", "val_interval", "graph"},
    "train_scae.yaml": {"objective"},
    "encode.yaml": {"shard"},
    "sample.yaml": set(),
    "inference.yaml": {"split", "threshold", "heat_maps", "anonymise", "anonymise_key"},
    "doctor.yaml": set(),
    "compare_masks.yaml": set(),
}
"""What else stands at the top: that a user decides for every data set, or that MONAI looks for under this name."""

BARE_SHARE = 1 / 7


def config_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    return content


def leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of everything in a config that holds nothing else; in a list the name is that of the list."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(name, part)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(key, part)
    else:
        yield key, value


def is_bare(key: str, value: Any) -> bool:
    """Whether a leaf but hands a value down: ``name: "@name"``."""
    return bool(value == f"@{key}")


@pytest.mark.parametrize("name", sorted(LINES))
def test_a_recipe_is_short(name: str) -> None:
    assert len((CONFIGS / name).read_text(encoding="utf-8").splitlines()) <= LINES[name]


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name != "datalist.yaml"))
def test_little_is_handed_down(name: str) -> None:
    """In datalist.yaml each option of a builder says what one data set calls its things."""
    found = [(key, value) for id_, part in config_of(name).items() for key, value in leaves(id_, part)]
    bare = [leaf for leaf in found if is_bare(*leaf)]
    assert len(bare) <= BARE_SHARE * len(found), bare


@pytest.mark.parametrize("name", sorted(OWN))
def test_shared_names_stand_at_the_top(name: str) -> None:
    """And nothing else does."""
    names = list(config_of(name))
    top = set(names[: names.index("options")]) - {"imports"}
    assert top - SHARED == OWN[name]


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_sentence_stands_before_each_block(name: str) -> None:
    """An empty line ends a block; the next begins by saying what it is for."""
    blocks = (CONFIGS / name).read_text(encoding="utf-8").split("\n\n")
    assert [block.splitlines()[0] for block in blocks if not block.startswith("# ")] == []
