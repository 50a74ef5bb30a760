from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.patches import contact_sheet
from scripts.patches.contact_sheet import write_contact_sheet
from scripts.patches.draw import SlideSample
from scripts.patches.patch_file import patch_writer

STEP_PX = 112 + 4


def sheet_of(folder: Path, *counts: int) -> np.ndarray:
    """Return the sheet of slides with so many patches; patch j of slide i is filled with (i, j, 0)."""
    with patch_writer(folder / "patches.h5", {}) as append:
        for slide, count in enumerate(counts):
            colours = np.stack([np.full(count, slide), np.arange(count), np.zeros(count)], axis=1).astype(np.uint8)
            patches = np.broadcast_to(colours[:, None, None], (count, 112, 112, 3))
            append(str(slide), SlideSample(patches, np.zeros((count, 2), np.int64), np.ones(count, bool), count, ""))
    write_contact_sheet(folder / "patches.h5", folder / "sheet.png")
    return np.asarray(Image.open(folder / "sheet.png"))


def middle(sheet: np.ndarray, row: int, column: int) -> list[int]:
    return sheet[4 + row * STEP_PX + 56, 4 + column * STEP_PX + 56].tolist()


def test_rows_are_slides(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, 30, 0, 2)
    assert sheet.shape == (2 * STEP_PX + 4, 20 * STEP_PX + 4, 3)
    assert middle(sheet, 0, 0) == [0, 0, 0]
    assert middle(sheet, 0, 19) == [0, 19, 0]
    assert middle(sheet, 1, 1) == [2, 1, 0]
    assert middle(sheet, 1, 2) == [255, 255, 255]
    assert (sheet[:4] == 255).all()


def test_many_slides_share_the_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "MAX_PATCHES", 6)
    assert sheet_of(tmp_path, 9, 9, 9).shape == (3 * STEP_PX + 4, 2 * STEP_PX + 4, 3)
    sheet = sheet_of(tmp_path, *[3] * 11)
    assert sheet.shape == (6 * STEP_PX + 4, STEP_PX + 4, 3)
    assert [middle(sheet, row, 0)[0] for row in range(6)] == [0, 2, 4, 6, 8, 10]
