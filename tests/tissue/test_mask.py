import numpy as np
import pytest
from tissue.array_slide import CELL_PX, ArraySlide, draw

from scripts.common.errors import RequestError
from scripts.slides.geometry import PatchGrid, plan_reading
from scripts.slides.opening import open_slide
from scripts.tissue.mask import find_tissue

MARKED = [
    "GGGGGGGGGG",
    "GTTTTTGGGG",
    "GTTTTTTGGG",
    "GTIIITTTGG",
    "GTTTTTTTIG",
    "GGTTTTGIIG",
    "GGGGGGGIGG",
    "TGGGGGGGGG",
]


def letters(kinds, wanted):
    return np.array([[kind in wanted for kind in line] for line in kinds])


def found(kinds, **options):
    slide = ArraySlide([draw(kinds, glass=options.pop("glass", 243.0))])
    grid = PatchGrid(patch_px_level0=CELL_PX, origin_xy_px=(0, 0), shape_yx=(len(kinds), len(kinds[0])))
    return find_tissue(slide, grid, **options)


@pytest.mark.parametrize("glass", [243.0, 239.5, 215.0])
def test_tissue_stays_ink_glass_and_speck_go(glass):
    tissue = found(MARKED, glass=glass)
    expected = letters(MARKED, "T")
    expected[7, 0] = False
    np.testing.assert_array_equal(tissue.mask, expected)
    assert tissue.box == (1, 1, 5, 7)
    assert tissue.glass_threshold < tissue.threshold < 1
    assert tissue.histogram_counts.sum() == tissue.mask.size
    assert tissue.reason == ""


def test_specks_are_kept_on_request():
    assert found(MARKED, min_speck_patches=1).mask[7, 0]


def test_a_slide_full_of_tissue_is_kept_whole():
    assert found(["TTTTTT"] * 5).mask.all()


def test_a_slide_of_one_patch_may_be_tissue_and_specks_are_told():
    assert found(["T"]).mask.all()
    specks = found(["GGGGGG", "GTTGGG", "GGGGGG"])
    assert not specks.mask.any()
    assert specks.reason == "all that has the texture of tissue are specks: 2 patches, in pieces of under 3"


@pytest.mark.parametrize("method", ["rle", "otsu"])
@pytest.mark.parametrize("kind", ["G", "K"])
def test_glass_and_darkness_give_an_empty_mask_and_a_reason(kind, method):
    tissue = found([kind * 6] * 5, method=method)
    assert tissue.mask.sum() == 0
    assert tissue.box == (0, 0, 0, 0)
    assert tissue.reason


def test_signal_on_black_is_no_stained_section():
    pixels = 255 - draw(["GGGGGG", "GTTTGG", "GTTTGG", "GGGGGG"], glass=252.0).astype(np.int64)
    slide = ArraySlide([np.clip(pixels - 30, 0, 255).astype(np.uint8)])
    tissue = find_tissue(slide, PatchGrid(CELL_PX, (0, 0), (4, 6)))
    assert tissue.mask.sum() == 0
    assert "dark" in tissue.reason


@pytest.mark.parametrize(
    ("option", "said"),
    [({"method": "hsv"}, "rle, otsu"), ({"min_speck_patches": 0}, "expected a whole number, 1 or more")],
)
def test_wrong_requests_are_refused(option, said):
    with pytest.raises(RequestError, match=said):
        found(["GG"], **option)


REAL = [("cmu-1-small-region.svs", None, 120, 180), ("tcga-cr-7395-01a-01-ts1.svs", 0.5, 560, 660)]


@pytest.mark.parametrize(("name", "mpp", "least", "most"), REAL)
def test_real_sections_are_found(data_dir, name, mpp, least, most):
    with open_slide(data_dir / "slides" / name) as reader:
        tissue = find_tissue(reader, plan_reading(reader, mpp=mpp).grid)
    assert least <= tissue.mask.sum() <= most


def test_a_coarse_section_keeps_its_tissue(data_dir):
    rows = np.loadtxt(data_dir / "slides" / "14082_patches.csv", delimiter=",", skiprows=1, dtype=int)
    with open_slide(data_dir / "slides" / "14082.tif") as reader:
        grid = plan_reading(reader).grid
        tissue = find_tissue(reader, grid)
    recorded = np.zeros((grid.shape_yx[0] * 16, grid.shape_yx[1] * 16), dtype=bool)
    for x, y, width, height, _ in rows:
        recorded[y : y + height, x : x + width] = True
    share = recorded.reshape(grid.shape_yx[0], 16, grid.shape_yx[1], 16).mean(axis=(1, 3))
    assert tissue.mask[share > 0.5].mean() > 0.85
    assert tissue.mask[share == 0].mean() < 0.01


def test_fluorescence_is_no_tissue(data_dir):
    with open_slide(data_dir / "slides" / "test3-DAPI-387.ndpi") as reader:
        tissue = find_tissue(reader, plan_reading(reader).grid)
    assert tissue.mask.sum() == 0
    assert "dark" in tissue.reason
