import csv
from pathlib import Path

import numpy as np
import pytest
from crashing import crash_at
from encoding.painted import write_tiff
from PIL import Image
from slides.mirax_file import write_mirax

from scripts.common.errors import RequestError, SlideError
from scripts.slides.geometry import PatchGrid
from scripts.slides.lesion_mask import all_lesion_cells, find_masks, lesion_cells
from scripts.slides.table import read_slides

SIZE_XY = (320, 256)
GRID = PatchGrid(32, (64, 32), (6, 7))
"""A box inside a slide of 10 x 8 cells, whose first cell is at row 1, column 2 of the slide."""


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "slide.tif"
    write_tiff(path, [np.full((SIZE_XY[1], SIZE_XY[0], 3), 200, dtype=np.uint8)])
    return path


def write_mask(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def random_cells() -> np.ndarray:
    """Lesions on the whole slide's 8 x 10 cells."""
    return np.random.default_rng(0).random((8, 10)) < 0.4


@pytest.mark.parametrize("k", [1, 2, 8, 32])
def test_a_mask_of_any_whole_scale_says_the_same(slide: Path, tmp_path: Path, k: int) -> None:
    cells = random_cells()
    mask = write_mask(tmp_path / "mask.png", np.kron(cells, np.ones((32 // k, 32 // k))).astype(np.uint8) * 255)
    np.testing.assert_array_equal(lesion_cells(mask, GRID, slide=slide), cells[1:7, 2:9])


@pytest.mark.parametrize("k", [1, 8, 32])
def test_cells_go_on_as_far_as_the_mask(slide: Path, tmp_path: Path, k: int) -> None:
    cells = random_cells()
    mask = write_mask(tmp_path / "mask.png", np.kron(cells, np.ones((32 // k, 32 // k))).astype(np.uint8) * 255)
    found, begin_yx = all_lesion_cells(mask, GRID, slide=slide)
    np.testing.assert_array_equal(found, cells)
    assert begin_yx == (1, 2)
    larger = PatchGrid(32, (-32, -64), (11, 14))
    found, begin_yx = all_lesion_cells(mask, larger, slide=slide)
    np.testing.assert_array_equal(found, np.pad(cells, ((2, 1), (1, 3))))
    assert begin_yx == (0, 0)


def test_cells_that_go_on_lie_as_those_of_the_grid(slide: Path, tmp_path: Path) -> None:
    """A grid off the corner by a part of a cell: as many whole cells as cover the rest."""
    mask, grid = write_mask(tmp_path / "mask.png", np.full((256, 320), 255, np.uint8)), PatchGrid(32, (40, 24), (2, 3))
    found, begin_yx = all_lesion_cells(mask, grid, slide=slide)
    assert found.shape == (1 + 8, 2 + 9) and begin_yx == (1, 2)
    np.testing.assert_array_equal(found[1:3, 2:5], lesion_cells(mask, grid, slide=slide))


def test_a_mask_coarser_than_a_patch(slide: Path, tmp_path: Path) -> None:
    """A pixel of 64 level-0 pixels is four cells."""
    pixels = np.zeros((4, 5), dtype=np.uint8)
    pixels[1, 2] = 1
    expected = np.zeros((8, 10), dtype=bool)
    expected[2:4, 4:6] = True
    found = lesion_cells(write_mask(tmp_path / "mask.png", pixels), GRID, slide=slide)
    np.testing.assert_array_equal(found, expected[1:7, 2:9])


@pytest.mark.parametrize("k", [3, 7, 48])
def test_a_scale_that_divides_neither_slide_nor_patch(slide: Path, tmp_path: Path, k: int) -> None:
    """The truth by counting level-0 pixels; 320 x 256 over k is rounded up."""
    height, width = -(-SIZE_XY[1] // k), -(-SIZE_XY[0] // k)
    pixels = (np.random.default_rng(k).random((height, width)) < 0.5).astype(np.uint8)
    level0 = np.kron(pixels, np.ones((k, k)))[32 : 32 + 6 * 32, 64 : 64 + 7 * 32]
    share = level0.reshape(6, 32, 7, 32).mean(axis=(1, 3))
    mask = write_mask(tmp_path / "mask.png", pixels)
    if k == 48:  # 7 x 6 pixels would be rounded up from 47 or 50, too
        with pytest.raises(SlideError, match=r"7 x 6 pixels may be of 41 to 51 level-0 pixels each.*with --mask_px"):
            lesion_cells(mask, GRID, slide=slide)
    found = lesion_cells(mask, GRID, slide=slide, mask_px=k if k == 48 else None)
    clear = np.abs(share - 0.5) > 1e-3
    np.testing.assert_array_equal(found[clear], (share >= 0.5)[clear])


def test_half_of_a_cell_is_enough(slide: Path, tmp_path: Path) -> None:
    pixels = np.zeros((256, 320), dtype=np.uint8)
    pixels[32:64, 64:80] = 1  # half of the first cell
    pixels[64:96, 64:79] = 1  # a little less of the one below
    found = lesion_cells(write_mask(tmp_path / "mask.png", pixels), GRID, slide=slide)
    assert found[0, 0] and found.sum() == 1


@pytest.mark.parametrize("origin_xy", [(-32, -64), (256, 192)])
def test_beyond_the_mask_there_is_no_lesion(slide: Path, tmp_path: Path, origin_xy: tuple[int, int]) -> None:
    mask = write_mask(tmp_path / "mask.png", np.ones((8, 10), dtype=np.uint8))
    found = lesion_cells(mask, PatchGrid(32, origin_xy, (4, 3)), slide=slide)
    rows, columns = np.mgrid[:4, :3]
    x, y = origin_xy[0] // 32 + columns, origin_xy[1] // 32 + rows
    np.testing.assert_array_equal(found, (x >= 0) & (x < 10) & (y >= 0) & (y < 8))


def test_values_and_channels(slide: Path, tmp_path: Path) -> None:
    """1 is tissue, 2 is tumour, as in many masks; in a picture of colours all of them say so."""
    labels = (1 + random_cells()).astype(np.uint8)
    grey = write_mask(tmp_path / "grey.png", labels)
    np.testing.assert_array_equal(lesion_cells(grey, GRID, slide=slide, lesion_from=2), random_cells()[1:7, 2:9])
    assert lesion_cells(grey, GRID, slide=slide).all()
    colour = write_mask(tmp_path / "colour.tif", np.stack([labels] * 3, axis=-1))
    np.testing.assert_array_equal(lesion_cells(colour, GRID, slide=slide, lesion_from=2), random_cells()[1:7, 2:9])


def test_the_scale_may_be_given_where_the_slide_is_gone(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.png", random_cells().astype(np.uint8))
    with pytest.raises(SlideError, match=r"gone\.tif is not there to tell the mask's scale.*--mask_px"):
        lesion_cells(mask, GRID, slide=tmp_path / "gone.tif")
    found = lesion_cells(mask, GRID, slide=tmp_path / "gone.tif", mask_px=32)
    np.testing.assert_array_equal(found, random_cells()[1:7, 2:9])


def test_a_mask_of_another_shape_is_refused(slide: Path, tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.png", np.zeros((10, 8), dtype=np.uint8))
    with pytest.raises(SlideError, match=r"8 x 10 pixels, the slide has 320 x 256 at level 0"):
        lesion_cells(mask, GRID, slide=slide)
    for mask_px in (16, 32):
        with pytest.raises(
            SlideError, match=rf"320 x 256 at level 0; .* over {mask_px}, as --mask_px says.* correct --m"
        ):
            lesion_cells(mask, GRID, slide=slide, mask_px=mask_px)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SlideError, match="not a readable mask"):
        lesion_cells(tmp_path / "text.png", GRID, slide=slide)


GLASS_XY, SCAN_XYWH = (576, 384), (144, 48, 240, 192)


@pytest.fixture
def mirax(tmp_path: Path) -> Path:
    """A slide of which a part was scanned."""
    scanned = np.zeros((8, 12), dtype=bool)
    scanned[1:5, 3:8] = True
    return write_mirax(tmp_path / "a.mrxs", np.full((*GLASS_XY[::-1], 3), 200, dtype=np.uint8), scanned, tile_px=48)


@pytest.mark.parametrize("mask_px", [None, 16])
@pytest.mark.parametrize("told_by", ["slide", "embedding"])
def test_a_mask_of_the_scanned_part_lies_where_it_was_scanned(
    tmp_path: Path, mirax: Path, mask_px: int | None, told_by: str
) -> None:
    """As QuPath exports it: the same cells as of a mask of the whole glass, whoever tells the sizes."""
    pixels = np.zeros((24, 36), dtype=np.uint8)
    pixels[3:15, 9:24] = np.random.default_rng(0).random((12, 15)) < 0.4
    glass = write_mask(tmp_path / "glass.png", pixels)
    scan = write_mask(tmp_path / "scan.png", pixels[3:15, 9:24])
    stated = {"slide_size_xy_px": np.array(GLASS_XY), "bounds_xywh_px": np.array(SCAN_XYWH)}
    told = {"slide": mirax} if told_by == "slide" else {"slide": tmp_path / "gone.mrxs", "attributes": stated}
    grid = PatchGrid(32, (144, 48), (6, 8))
    found = [lesion_cells(mask, grid, mask_px=mask_px, **told) for mask in (glass, scan)]
    assert 0 < found[0].sum() < found[0].size
    np.testing.assert_array_equal(found[0], found[1])
    turned = write_mask(tmp_path / "turned.png", pixels[3:15, 9:24].T)
    with pytest.raises(
        SlideError, match=r"12 x 15 pixels, the slide has 576 x 384 .*, of which 240 x 192 were scanned; .*part"
    ):
        lesion_cells(turned, grid, mask_px=mask_px, **told)


def test_a_mask_that_fits_the_glass_and_the_scan_says_which(tmp_path: Path) -> None:
    pixels = np.zeros((8, 12), dtype=np.uint8)
    pixels[:, :6] = 1
    mask = write_mask(tmp_path / "mask.png", pixels)
    stated = {"slide_size_xy_px": np.array([768, 512]), "bounds_xywh_px": np.array([256, 128, 384, 256])}
    told = {"slide": tmp_path / "gone.mrxs", "attributes": stated}
    grid = PatchGrid(64, (0, 0), (8, 12))
    with pytest.raises(
        SlideError, match=r"12 x 8 pixels fit the whole slide, 64 .*, and the scanned part, 32 .*--mask_px"
    ):
        lesion_cells(mask, grid, **told)
    assert [int(lesion_cells(mask, grid, mask_px=k, **told).sum()) for k in (64, 32)] == [48, 12]


def test_a_mask_of_the_scanned_part_may_fit_several_scales(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.png", np.ones((6, 7), dtype=np.uint8))
    stated = {"slide_size_xy_px": np.array([768, 384]), "bounds_xywh_px": np.array([256, 64, 320, 256])}
    told = {"slide": tmp_path / "gone.mrxs", "attributes": stated}
    with pytest.raises(SlideError, match=r"7 x 6 pixels may be of 41 to 51 level-0 pixels each"):
        lesion_cells(mask, GRID, **told)
    assert lesion_cells(mask, GRID, mask_px=48, **told).any()


def test_a_scale_that_is_given_serves_where_the_slide_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "broken.svs").write_text("no slide")
    mask = write_mask(tmp_path / "mask.png", np.ones((4, 6), dtype=np.uint8))
    grid = PatchGrid(32, (0, 0), (4, 6))
    assert lesion_cells(mask, grid, slide=tmp_path / "broken.svs", mask_px=32).all()
    with pytest.raises(SlideError, match=r"broken\.svs"):
        lesion_cells(mask, grid, slide=tmp_path / "broken.svs")


def test_masks_are_found_in_a_folder_or_by_the_table(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    table = tmp_path / "slides.csv"
    table.write_text("slide,mask\na.svs,masks/a_lesions.tif\nb.svs,\n")
    rows = read_slides(table)
    with pytest.raises(RequestError, match=r"slide a has the mask .*a_lesions\.tif, which does not exist"):
        find_masks(rows, table)
    for name in ("a_lesions.tif", "b.png"):
        (tmp_path / "masks" / name).touch()
    assert find_masks(rows, table) == {"a": tmp_path / "masks" / "a_lesions.tif"}
    assert find_masks(rows, table, tmp_path / "masks") == {"b": tmp_path / "masks" / "b.png"}
    with pytest.raises(RequestError, match=r"gone: no such folder.*--masks"):
        find_masks(rows, table, tmp_path / "gone")


def test_a_real_section_cell_for_cell(data_dir: Path) -> None:
    """The mask of 14082 on the grid of its patches has the label of each as the table of patches gives it."""
    folder = data_dir / "slides"
    with open(folder / "14082_patches.csv", newline="") as file:
        labels = {(int(row["x"]), int(row["y"])): int(row["idc"]) for row in csv.DictReader(file)}
    grid = PatchGrid(50, (0, 0), (47, 56))
    mask, slide = folder / "14082_label.png", folder / "14082.tif"
    labelled, tumour = (lesion_cells(mask, grid, slide=slide, lesion_from=value) for value in (1, 2))
    found = {(int(50 * x), int(50 * y)): int(tumour[y, x]) for y, x in np.argwhere(labelled)}
    assert found == labels
    assert (len(labels), int(tumour.sum())) == (478, 197)


def test_a_slide_that_ends_its_reader_is_its_masks_failure(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = write_mask(tmp_path / "mask.png", random_cells().astype(np.uint8))
    crash_at(monkeypatch, "scripts.slides.lesion_mask", "slide.tif")
    with pytest.raises(SlideError, match=r"mask\.png: the process that read it was ended by SIGSEGV"):
        lesion_cells(mask, GRID, slide=slide)
