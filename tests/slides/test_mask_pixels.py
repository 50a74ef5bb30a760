"""Masks as Camelyon16 hands them out: pyramids of tiles, one 8-bit number per pixel, level 0 as large as the slide's."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from scripts.common.errors import SlideError
from scripts.slides.backends.mask_reader import MaskReader
from scripts.slides.geometry import PatchGrid
from scripts.slides.lesion_mask import find_masks, lesion_cells, lesion_shares
from scripts.slides.mask_pixels import CELL_PX, MaskPixels, open_mask
from scripts.slides.reader import whole_factor
from scripts.slides.table import read_slides

TILE_PX = 64
PATCH_PX = 48


def blobs(height: int, width: int) -> np.ndarray:
    """0 outside, 1 tissue, 2 lesion: rounded shapes that no cell's border follows."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    tissue = (y - 0.5) ** 2 + (x - 0.6) ** 2 < 0.2
    lesion = (y - 0.45) ** 2 + 2 * (x - 0.55) ** 2 < 0.06
    return (tissue.astype(np.uint8) + (tissue & lesion)).astype(np.uint8)


def write_pyramid(path: Path, pixels: np.ndarray, *, levels: int = 4, **options: Any) -> Path:
    """Write a tiled pyramid in which each level keeps every second pixel of the one before."""
    settings = {"tile": (TILE_PX, TILE_PX), "photometric": "minisblack", "compression": "lzw", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(levels):
            file.write(pixels[:: 2**level, :: 2**level], subfiletype=int(level > 0), **(settings | options))
    return path


def write_png(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def grid_of(pixels: np.ndarray, *, origin_xy: tuple[int, int] = (-PATCH_PX, 10)) -> PatchGrid:
    height, width = pixels.shape
    return PatchGrid(PATCH_PX, origin_xy, (height // PATCH_PX + 2, width // PATCH_PX + 2))


def shares_of(path: Path, grid: PatchGrid, *, lesion_from: int = 2) -> np.ndarray:
    with open_mask(path) as pixels:
        return lesion_shares(pixels, grid, 1, lesion_from=lesion_from)


@pytest.mark.parametrize("size_yx", [(700, 900), (701, 897)])
@pytest.mark.parametrize("lesion_from", [1, 2])
def test_a_pyramid_gives_the_cells_of_its_level_0_as_png(
    tmp_path: Path, size_yx: tuple[int, int], lesion_from: int
) -> None:
    pixels = blobs(*size_yx)
    grid = grid_of(pixels)
    tiff, png = write_pyramid(tmp_path / "mask.tif", pixels), write_png(tmp_path / "mask.png", pixels)
    found = lesion_cells(tiff, grid, slide=tmp_path / "gone.tif", mask_px=1, lesion_from=lesion_from)
    shares = shares_of(png, grid, lesion_from=lesion_from)
    expected = shares >= 0.5
    clear = np.abs(shares - 0.5) > 1 / (2 * CELL_PX)  # what a row of pixels may cost a cell at a lesion's border
    np.testing.assert_array_equal(found[clear], expected[clear])
    assert clear.mean() > 0.97 and expected.any() and not expected.all()


def test_in_tiles_without_levels_every_share_is_that_of_the_png(tmp_path: Path) -> None:
    pixels = blobs(300, 400)
    tiff, png = write_pyramid(tmp_path / "mask.tif", pixels, levels=1), write_png(tmp_path / "mask.png", pixels)
    np.testing.assert_array_equal(shares_of(tiff, grid_of(pixels)), shares_of(png, grid_of(pixels)))


def test_the_level_nearest_to_a_cell_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the side at level 0, with a level more, and the same cells: not a tile more is decoded."""
    decoded: list[int] = []
    decode = MaskReader._tile
    monkeypatch.setattr(MaskReader, "_tile", lambda reader, *tile: decoded.append(tile[0]) or decode(reader, *tile))
    counts, shares = [], []
    for double in (1, 2, 4):
        pixels = blobs(512, 512).repeat(double, axis=0).repeat(double, axis=1)
        path = write_pyramid(tmp_path / f"{double}.tif", pixels, levels=3 + int(np.log2(double)))
        decoded.clear()
        shares.append(shares_of(path, PatchGrid(32 * double, (0, 0), (16, 16))))
        counts.append(len(decoded))
        assert set(decoded) == {2 + int(np.log2(double))}  # 8 pixels per cell
    assert counts == [4, 4, 4]
    np.testing.assert_array_equal(shares[0], shares[1])
    np.testing.assert_array_equal(shares[0], shares[2])


def test_what_is_read_at_once_does_not_grow_with_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.slides.lesion_mask.BLOCK_PX", 200)
    boxes: list[tuple[int, int]] = []

    def values(level: int, low: tuple[int, int], high: tuple[int, int]) -> np.ndarray:
        boxes.append((high[0] - low[0], high[1] - low[1]))
        return np.zeros((boxes[-1][1], boxes[-1][0]), dtype=np.uint8)

    huge = MaskPixels(((1200, 900),), values)
    assert not lesion_shares(huge, PatchGrid(25, (-10, 7), (36, 48)), 1, lesion_from=1).any()
    assert len(boxes) == 30 and max(map(max, boxes)) <= 200


@pytest.mark.parametrize(("cell_px", "level"), [(1, 0), (8, 0), (15.9, 0), (16, 1), (31, 1), (64, 3), (256, 3)])
def test_the_choice_of_the_level(cell_px: float, level: int) -> None:
    mask = MaskPixels(((1001, 803), (500, 401), (250, 200), (125, 100)), lambda *box: np.zeros(0))
    assert mask.level_for(cell_px) == (level, 2**level)


def test_whole_factors() -> None:
    assert whole_factor((1001, 803), (1001, 803)) == 1
    assert whole_factor((1001, 803), (500, 401)) == whole_factor((1001, 803), (501, 402)) == 2
    assert whole_factor((1001, 803), (400, 321)) is None
    assert whole_factor((100000, 80000), (196, 157)) == 510, "what is rounded up is a little less than the true one"
    assert whole_factor((100000, 80000), (196, 157), 512) == 512
    assert whole_factor((100000, 80000), (196, 157), 256) is None


def test_tiles_that_are_not_in_the_file_are_without_lesion(tmp_path: Path) -> None:
    pixels = np.full((TILE_PX, TILE_PX), 1, dtype=np.uint8)
    path = tmp_path / "sparse.tif"
    with tifffile.TiffWriter(path) as file:
        options: dict[str, Any] = {"tile": (TILE_PX, TILE_PX), "photometric": "minisblack", "metadata": None}
        file.write(iter([b"", pixels.tobytes()]), shape=(TILE_PX, 2 * TILE_PX), dtype=np.uint8, **options)
    shares = shares_of(path, PatchGrid(TILE_PX, (0, 0), (1, 2)), lesion_from=1)
    np.testing.assert_array_equal(shares, [[0, 1]])


def test_numbers_are_read_as_they_are(tmp_path: Path) -> None:
    """A palette's colours say nothing, nor does grey of 16 bit or in strips go through colours."""
    pixels = blobs(300, 400)
    expected = shares_of(write_png(tmp_path / "mask.png", pixels), grid_of(pixels))
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 256), dtype=np.uint16)
    written = [
        write_pyramid(tmp_path / "palette.tif", pixels, levels=1, photometric="palette", colormap=colours),
        write_pyramid(tmp_path / "16_bit.tif", pixels.astype(np.uint16), levels=1),
        write_pyramid(tmp_path / "strips.tif", pixels, levels=1, tile=None),
        write_pyramid(tmp_path / "rgb.tif", np.stack([pixels] * 3, -1), levels=1, photometric="rgb"),
        write_png(tmp_path / "rgba.png", np.stack([pixels] * 3 + [255 - pixels], -1)),
        write_png(tmp_path / "la.png", np.stack([pixels, 255 - pixels], -1)),
    ]
    for path in written:
        np.testing.assert_array_equal(shares_of(path, grid_of(pixels)), expected, err_msg=path.name)


@pytest.mark.parametrize("lesion_is", [0, 1, 2])
def test_colours_are_refused(tmp_path: Path, lesion_is: int) -> None:
    """Whichever channel is read, another one may hold the lesions."""
    pixels = np.zeros((300, 400, 4), dtype=np.uint8)
    pixels[..., lesion_is] = blobs(300, 400) * 100
    paths = [
        write_pyramid(tmp_path / "mask.tif", pixels[..., :3], levels=1, photometric="rgb"),
        write_png(tmp_path / "rgb.png", pixels[..., :3]),
        write_png(tmp_path / "rgba.png", pixels),
    ]
    for path in paths:
        with pytest.raises(
            SlideError, match=rf"{path.name}: a mask in colours, expected one number .*save it as one channel"
        ):
            lesion_cells(path, grid_of(pixels[..., 0]), slide=tmp_path / "gone.tif", mask_px=1)


def test_damage_is_an_error_that_names_the_mask(tmp_path: Path) -> None:
    pixels = blobs(300, 400)
    path = write_pyramid(tmp_path / "mask.tif", pixels)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        begin, count = page.dataoffsets[1], page.databytecounts[1]
    path.write_bytes(whole[:begin] + bytes(count) + whole[begin + count :])
    grid, gone = grid_of(pixels), tmp_path / "gone.tif"
    with pytest.raises(SlideError, match=r"mask\.tif: level 0 cannot be decoded.*write the mask anew"):
        lesion_cells(path, PatchGrid(8, (0, 0), (30, 40)), slide=gone, mask_px=1)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SlideError, match=re.escape(f"{path}: not a readable mask")):
        lesion_cells(path, grid, slide=gone, mask_px=1)
    rotated = write_pyramid(tmp_path / "rotated.tif", pixels, extratags=[(274, "H", 1, 6, True)])
    with pytest.raises(SlideError, match=r"rotated\.tif: not a readable mask .*Orientation"):
        lesion_cells(rotated, grid, slide=gone, mask_px=1)


def test_camelyon16s_names_are_found(tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text("slide\ntumor_001.tif\nTumor_002.tif\ntumor_003.tif\nnormal_001.tif\n")
    for name in (
        "tumor_001_mask.tif",
        "Tumor_002_Mask.tif",
        "tumor_003_mask.tif",
        "tumor_003.png",
        "tumor_004_mask.tif",
    ):
        (tmp_path / name).touch()
    found = find_masks(read_slides(table), table, tmp_path)
    assert {slide_id: path.name for slide_id, path in found.items()} == {
        "tumor_001": "tumor_001_mask.tif",
        "Tumor_002": "Tumor_002_Mask.tif",
        "tumor_003": "tumor_003.png",
    }
