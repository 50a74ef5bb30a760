from pathlib import Path

import numpy as np
import pytest
from crashing import crash_at
from encoding.bad_tiles import spoil_tile, write_pyramid
from encoding.painted import write_tiff
from PIL import Image
from tiny_flow import read_rows, run_command

from scripts.common.errors import RequestError, SlideError
from scripts.report.mask_figure import compare_masks

PATCH_PX = 32


def write_marked_slide(path: Path) -> None:
    """2 um per pixel: glass, 8 x 8 patches of texture, and a stroke of even ink of 8 x 2 patches beside it."""
    rng = np.random.default_rng(0)
    pixels = np.full((12 * PATCH_PX, 16 * PATCH_PX, 3), 244, dtype=np.uint8)
    tissue = rng.integers(60, 230, (8 * PATCH_PX, 8 * PATCH_PX, 1))
    pixels[2 * PATCH_PX : 10 * PATCH_PX, 2 * PATCH_PX : 10 * PATCH_PX] = tissue
    pixels[2 * PATCH_PX : 10 * PATCH_PX, 12 * PATCH_PX : 14 * PATCH_PX] = (20, 60, 130)
    write_tiff(path, [pixels])


def test_ink_goes_with_run_lengths_and_stays_with_otsu(tmp_path: Path) -> None:
    write_marked_slide(tmp_path / "marked.tif")
    rows = {row.method: row for row in compare_masks(tmp_path / "marked.tif", tmp_path / "out")}
    assert (rows["rle"].kept, rows["otsu"].kept) == (64, 80)
    written = {row["method"]: row for row in read_rows(tmp_path / "out" / "masks.csv")}
    assert written["rle"]["kept"] == "64" and float(written["rle"]["threshold"]) == rows["rle"].threshold
    picture = np.asarray(Image.open(tmp_path / "out" / "marked.png").convert("RGB"), dtype=int)
    ink = np.abs(picture - np.array([20, 60, 130])).max(axis=2) < 12
    third = picture.shape[1] // 3
    counts = [int(ink[:, index * third : (index + 1) * third].sum()) for index in range(3)]
    assert counts[0] > 1000 and counts[1] == pytest.approx(counts[0], rel=0.05) and counts[2] == 0


def test_a_slide_that_fails_alone(tmp_path: Path) -> None:
    write_marked_slide(tmp_path / "marked.tif")
    (tmp_path / "slides.csv").write_text("slide\nmarked.tif\ngone.tif\n")
    with pytest.raises(SlideError, match=r"1 of 2 slides failed.*masks\.csv says why"):
        compare_masks(tmp_path / "slides.csv", tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "masks.csv")
    assert [(row["slide_id"], row["status"]) for row in rows] == [
        *[("marked", "done")] * 2,
        *[("gone", "failed")] * 2,
    ]
    assert (tmp_path / "out" / "marked.png").is_file() and not (tmp_path / "out" / "gone.png").exists()


def test_the_remedy_of_an_unreadable_tile_is_an_option(tmp_path: Path) -> None:
    spoil_tile(write_pyramid(tmp_path / "a.tif"), 2, 0)
    spoil_tile(tmp_path / "a.tif", 1, 0)
    spoil_tile(tmp_path / "a.tif", 0, 0)
    options = {"slides": tmp_path / "a.tif", "output_dir": tmp_path / "out", "reading#unreadable_tiles": "mask"}
    result = run_command("comparing_masks", "compare_masks.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 0, result.stderr
    assert {row["method"]: row["kept"] for row in read_rows(tmp_path / "out" / "masks.csv")}["rle"] == "47"


def test_no_slides(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--slides"):
        compare_masks(None, tmp_path)


def test_a_slide_that_ends_its_reader_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad.tif", "marked.tif"):
        write_marked_slide(tmp_path / "scans" / name)
    crash_at(monkeypatch, "scripts.report.mask_figure", "bad.tif")
    with pytest.raises(SlideError, match=r"1 of 2 slides failed"):
        compare_masks(tmp_path / "scans", tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "masks.csv")
    assert [row["status"] for row in rows] == ["failed", "failed", "done", "done"]
    assert "SIGSEGV" in rows[0]["reason"]
