"""What two checkouts made is compared part by part."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tools"))
import compare_checkouts  # noqa: E402


def write(root: Path, *, bit: int = 0, weight: float = 1.0, row: str = "a,1\n", mpp: float = 0.5) -> Path:
    for folder in ("embeddings", "models", "predictions"):
        (root / folder).mkdir(parents=True)
    with h5py.File(root / "embeddings" / "a.h5", "w") as file:
        file["features"] = np.arange(6, dtype=np.uint8).reshape(2, 3) ^ bit
        file["features"].attrs["unit"] = "none"
        file.attrs["mpp_x"] = mpp
    torch.save({"state": {"weight": torch.full((2,), weight)}, "epoch": 3}, root / "models" / "model.pt")
    (root / "predictions" / "predictions.csv").write_text(row)
    return root


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"bit": 1}, ["embeddings/a.h5: features differs"]),
        ({"mpp": 0.25}, ["embeddings/a.h5: / mpp_x differs"]),
        ({"weight": 1 + 2**-23}, ["models/model.pt: state.weight differs"]),
        ({"row": "a,2\n"}, ["predictions/predictions.csv: bytes differs"]),
    ],
)
def test_what_differs_is_named(tmp_path: Path, change: dict[str, float], found: list[str]) -> None:
    before, after = write(tmp_path / "before"), write(tmp_path / "after", **change)  # type: ignore[arg-type]
    assert list(compare_checkouts.differences(before, after)) == found


def test_a_file_of_one_side_and_nothing_at_all_are_differences(tmp_path: Path) -> None:
    before, after = write(tmp_path / "before"), write(tmp_path / "after")
    (after / "models" / "model.pt").unlink()
    assert list(compare_checkouts.differences(before, after)) == ["models/model.pt: only before"]
    assert len(list(compare_checkouts.differences(tmp_path / "x", tmp_path / "y"))) == 1
