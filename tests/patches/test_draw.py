from pathlib import Path

import numpy as np
import pytest
from encoding.bad_tiles import COLUMNS, ROWS, spoil, take_out, write_pyramid
from patches.plain_slide import CELL_PX, write_plain_slide

from scripts.common.errors import SlideError
from scripts.patches import draw
from scripts.patches.draw import DrawRules, SlideSample, sample_slide
from scripts.patches.nuclei import is_nucleus_rich
from scripts.slides.opening import Reading, open_slide
from scripts.slides.table import SlideRow


def sample(path: Path, patches: int, **options: float) -> SlideSample:
    reading = Reading(num_workers=int(options.pop("num_workers", 0)))
    return sample_slide(SlideRow(path.stem, path), DrawRules(patches_per_slide=patches, **options), reading)


def assert_same(one: SlideSample, other: SlideSample) -> None:
    np.testing.assert_array_equal(one.coords_xy_px, other.coords_xy_px)
    np.testing.assert_array_equal(one.patches, other.patches)
    np.testing.assert_array_equal(one.rich, other.rich)


def test_nine_of_ten_are_rich_on_a_slide_of_pale_tissue(tmp_path: Path) -> None:
    drawn = sample(write_plain_slide(tmp_path / "slide.tif", rich=60, pale=80), 50)
    assert drawn.patches.shape == (50, 112, 112, 3)
    assert drawn.patches.dtype == np.uint8
    assert drawn.rich.sum() == 45
    assert drawn.candidates == 140
    assert drawn.reason == ""
    np.testing.assert_array_equal(is_nucleus_rich(drawn.patches), drawn.rich)
    assert len(np.unique(drawn.coords_xy_px, axis=0)) == 50


def test_patches_are_those_of_the_slide_at_their_coordinates(tmp_path: Path) -> None:
    path = write_plain_slide(tmp_path / "slide.tif", rich=30, pale=10)
    drawn = sample(path, 12)
    assert (drawn.coords_xy_px % CELL_PX == 0).all()
    with open_slide(path) as reader:
        pixels = reader.read_patches(drawn.coords_xy_px, size_xy_px=(CELL_PX, CELL_PX), level=0)
    # enlarged 3.5 times by bilinear interpolation: the mean of a patch stays within noise of its border pixels
    np.testing.assert_allclose(drawn.patches.mean(axis=(1, 2)), pixels.mean(axis=(1, 2)), atol=1.5)


def test_the_rest_is_free(tmp_path: Path) -> None:
    path = write_plain_slide(tmp_path / "slide.tif", rich=30, pale=60)
    assert sample(path, 20, rich_share=1).rich.all()
    assert sample(path, 20, rich_share=0.55).rich.sum() == 11
    assert sample(path, 20, rich_share=0).rich.mean() < 0.8
    assert sample(write_plain_slide(tmp_path / "dark.tif", rich=60, pale=0), 50).rich.all()


@pytest.mark.parametrize(("rich", "pale", "others"), [(20, 70, 2), (9, 81, 1), (8, 82, 0), (30, 2, 2)])
def test_others_are_given_back_until_the_share_holds(tmp_path: Path, rich: int, pale: int, others: int) -> None:
    drawn = sample(write_plain_slide(tmp_path / "slide.tif", rich=rich, pale=pale), 80)
    assert drawn.rich.sum() == rich
    assert len(drawn.rich) == len(drawn.patches) == len(drawn.coords_xy_px) == rich + others
    assert drawn.candidates == rich + pale
    assert f"{rich + others} of 80 patches drawn: {rich + pale} patches hold tissue, {rich} of them" in drawn.reason
    assert ("a lower rich_share draws more" in drawn.reason) == (others < pale)
    np.testing.assert_array_equal(is_nucleus_rich(drawn.patches), drawn.rich)


def test_a_slide_without_a_rich_patch_gives_none(tmp_path: Path) -> None:
    path = write_plain_slide(tmp_path / "slide.tif", rich=0, pale=40)
    drawn = sample(path, 20)
    assert drawn.patches.shape == (0, 112, 112, 3)
    assert drawn.coords_xy_px.shape == (0, 2)
    assert "0 of 20 patches drawn" in drawn.reason
    assert len(sample(path, 20, rich_share=0).patches) == 20


def test_a_slide_without_tissue_gives_none_and_says_so(tmp_path: Path) -> None:
    drawn = sample(write_plain_slide(tmp_path / "slide.tif", rich=0, pale=0), 20)
    assert len(drawn.patches) == drawn.candidates == 0
    assert drawn.reason == "no patch has the texture of tissue"


def test_draw_follows_from_seed_and_slide_id_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_plain_slide(tmp_path / "slide.tif", rich=60, pale=60)
    first = sample(path, 40)
    assert_same(first, sample(path, 40, num_workers=2))
    monkeypatch.setattr(draw, "BATCH_PATCHES", 7)
    assert_same(first, sample(path, 40))
    other_seed = sample(path, 40, seed=1)
    other_id = sample_slide(SlideRow("another", path), DrawRules(patches_per_slide=40))
    for other in (other_seed, other_id):
        assert (other.coords_xy_px != first.coords_xy_px).any()


def test_draw_reaches_all_of_the_tissue(tmp_path: Path) -> None:
    drawn = sample(write_plain_slide(tmp_path / "slide.tif", rich=100, pale=0), 50)
    assert drawn.coords_xy_px[:, 1].min() < 3 * CELL_PX
    assert drawn.coords_xy_px[:, 1].max() >= 7 * CELL_PX


def test_patches_on_unreadable_tiles_fail_the_slide_or_are_left_out(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif")  # 128 px per patch
    spoil(path, 0, (2, 4))
    take_out(path, 0, [34, 35, 50, 51])  # row 1, column 1
    whole, row = ROWS * COLUMNS, SlideRow("slide", path)
    with pytest.raises(SlideError, match=r"level 0 .*--reading#unreadable_tiles mask"):
        sample_slide(row, DrawRules(patches_per_slide=whole, rich_share=0))
    masked = Reading(unreadable_tiles="mask")
    drawn = sample_slide(row, DrawRules(patches_per_slide=whole, rich_share=0), masked)
    assert len(drawn.patches) == drawn.candidates == whole - 2
    assert not {(128, 128), (512, 256)} & {tuple(corner) for corner in drawn.coords_xy_px.tolist()}
    assert (drawn.patches < 255).any(axis=(1, 2, 3)).all()
    assert drawn.reason.startswith(f"{whole - 2} of {whole} patches drawn: {whole - 2} patches hold tissue")
    assert drawn.reason.endswith("; 2 other patches lie on unreadable tiles and were left out")
    assert sample_slide(row, DrawRules(patches_per_slide=20, rich_share=0), masked).reason == ""


def test_no_tissue_beside_unreadable_tiles_is_a_failure(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif", np.s_[2:4, 4:6])
    for level in range(3):
        for patch_yx in ((2, 4), (2, 5), (3, 4), (3, 5)):
            spoil(path, level, patch_yx)
    with pytest.raises(
        SlideError, match=r"slide\.tif: 4 of 48 patches lie on unreadable tiles and no tissue was found"
    ):
        sample_slide(SlideRow("slide", path), DrawRules(), Reading(unreadable_tiles="mask"))


def test_missing_slide_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs"):
        sample(tmp_path / "gone.svs", 5)


def test_real_slide(data_dir: Path) -> None:
    drawn = sample(data_dir / "slides" / "cmu-1-small-region.svs", 40)
    assert len(drawn.patches) == 40
    assert drawn.rich.mean() >= 0.9
    assert drawn.patches[drawn.rich].mean() < 178.5
