import base64
import io
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from crashing import crash_at
from encoding.painted import write_tiff
from PIL import Image
from report.report_files import PATCH_PX, SHAPE_YX, card_of, predictions_of, write_inference

from scripts.common.errors import SlideError
from scripts.inference.record import slide_fingerprint
from scripts.report.pictures import OPAQUE_FROM, Picture, colour_stops, slide_pictures
from scripts.report.results import SlideResult, read_inference
from scripts.slides.box import BoxReader


def decoded(uri: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
    return np.asarray(image.convert("RGBA") if image.mode == "P" else image)


def slide_of(folder: Path, mpp: float | None = 0.5, **options: bool) -> SlideResult:
    return read_inference(write_inference(folder, card_of("a", "b"), predictions_of(1), mpp=mpp, **options)).slides[0]


def picture_of(slide: SlideResult, side_px: int = 64) -> Picture:
    (picture,) = pictures_of(slide, side_px)
    return picture


def pictures_of(slide: SlideResult, *sides_px: int) -> list[Picture]:
    with closing(BoxReader()) as boxes:
        return slide_pictures(slide, boxes, sides_px=sides_px)


def test_layers_lie_where_the_heat_map_does(tmp_path: Path) -> None:
    """One pixel per patch; unobserved cells (row 0, column 0 here) are bare in the map and veiled in the other layer."""
    picture = picture_of(slide_of(tmp_path))
    heat, veil = decoded(picture.heat), decoded(picture.left_out)
    assert heat.shape == veil.shape == (*SHAPE_YX, 4)
    observed = np.ones(SHAPE_YX, dtype=bool)
    observed[0, 0] = False
    np.testing.assert_array_equal(veil[..., 3] == 0, observed)
    expected = np.random.default_rng(0).random(SHAPE_YX).astype(np.float32) * observed
    np.testing.assert_allclose(heat[..., 3] / 255, np.minimum(1, expected / OPAQUE_FROM), atol=0.01)
    row, column = np.unravel_index(expected.argmax(), SHAPE_YX)
    shade = matplotlib.colormaps["viridis"](float(expected.max()))[:3]
    np.testing.assert_allclose(heat[row, column, :3] / 255, shade, atol=0.02)
    assert picture.evidence


def test_a_small_picture_has_a_small_map(tmp_path: Path) -> None:
    """Two by two patches a pixel: a pixel is observed where any of them is, and shows the mean of those."""
    whole, small = pictures_of(slide_of(tmp_path), 8, 4)
    heat, veil = decoded(small.heat), decoded(small.left_out)
    assert heat.shape == veil.shape == (3, 4, 4) and (small.width, small.height) == (whole.width, whole.height) == (
        8,
        6,
    )
    assert not veil[..., 3].any(), "of the first block three patches were observed"
    cam = np.random.default_rng(0).random(SHAPE_YX).astype(np.float32)
    first = np.mean([cam[0, 1], cam[1, 0], cam[1, 1]])
    shade = matplotlib.colormaps["viridis"](float(first))[:3]
    np.testing.assert_allclose(heat[0, 0, :3] / 255, shade, atol=0.02)
    assert heat[0, 0, 3] / 255 == pytest.approx(min(1, first / OPAQUE_FROM), abs=0.01)


def test_the_thumbnail_stands_in_for_a_slide_that_is_gone(tmp_path: Path) -> None:
    slide = slide_of(tmp_path)
    picture = picture_of(slide)
    assert picture.source == "thumbnail"
    assert decoded(picture.image).shape == (2 * SHAPE_YX[0], 2 * SHAPE_YX[1], 3), "never enlarged"
    assert slide.scores
    without = replace(slide, scores={**slide.scores, "tissue": {**slide.tissue, "pen_coloured": None}})
    assert picture_of(without).source == "nothing", "what lies there is of an earlier run"
    (slide.folder / "thumbnail.png").unlink()
    white = picture_of(slide)
    assert white.source == "nothing" and decoded(white.image).min() > 250


def test_the_slide_itself_is_read_where_it_is(tmp_path: Path) -> None:
    """The box begins at x 256, y 512: red fills it, blue is all around."""
    rows, columns = SHAPE_YX
    pixels = np.zeros((512 + rows * PATCH_PX + 200, 256 + columns * PATCH_PX + 200, 3), dtype=np.uint8)
    pixels[..., 2] = 255
    pixels[512 : 512 + rows * PATCH_PX, 256 : 256 + columns * PATCH_PX] = (255, 0, 0)
    (tmp_path / "gone").mkdir()
    write_tiff(tmp_path / "gone" / "0.tif", [pixels])
    slide = slide_of(tmp_path)
    picture = picture_of(slide)
    image = decoded(picture.image)
    assert picture.source == "slide" and image.shape == (48, 64, 3)
    assert image[..., 0].min() > 230 and image[..., 2].max() < 40
    write_tiff(tmp_path / "gone" / "other.tif", [255 - pixels])
    assert slide.scores is not None
    for other in ("gone/other.tif", str(tmp_path / "gone" / "other.tif")):  # whatever scores.json names by now
        assert picture_of(replace(slide, scores={**slide.scores, "slide": other})).source == "thumbnail"
    unknown = {name: value for name, value in slide.scores.items() if name != "slide_print"}  # as older files
    assert picture_of(replace(slide, scores=unknown)).source == "thumbnail"


@pytest.mark.parametrize("name", ["cam.nii.gz", "observed.png", "thumbnail.png"])
def test_a_link_to_another_place_is_no_picture_of_the_slide(tmp_path: Path, name: str) -> None:
    slide = slide_of(tmp_path / "a")
    (slide.folder / name).rename(tmp_path / name)
    (slide.folder / name).symlink_to(tmp_path / name)
    with pytest.raises(SlideError, match=rf"{name}: a link, expected the file that inference wrote"):
        picture_of(slide)


def test_a_slide_file_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    slide = slide_of(tmp_path)
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "0.tif").write_bytes(b"no slide")
    assert picture_of(slide).source == "thumbnail"


@pytest.mark.parametrize(("mpp", "label", "length"), [(0.5, "100 µm", 100), (5.0, "1 mm", 1000), (None, "200 px", 200)])
def test_the_scale_bar(tmp_path: Path, mpp: float | None, label: str, length: float) -> None:
    """The box is 8 patches of 128 px wide."""
    picture = picture_of(slide_of(tmp_path, mpp))
    assert (picture.scale_label, picture.scale_length) == (label, length)
    assert picture.scale_share == pytest.approx(length / (8 * 128 * (mpp or 1)))


def test_an_empty_map_and_none(tmp_path: Path) -> None:
    assert not picture_of(slide_of(tmp_path / "a", empty_map=True)).evidence
    assert pictures_of(slide_of(tmp_path / "b", heat_maps=False), 64) == []


def test_the_legend_fades_as_the_map_does() -> None:
    stops = colour_stops()
    assert stops[0].endswith("00") and stops[-1].endswith("ff") and len(stops) == 11


def test_a_slide_that_ends_its_reader_is_shown_by_its_thumbnail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = slide_of(tmp_path)
    assert slide.scores is not None
    path = slide.folder.parent / slide.scores["slide"]
    write_tiff(path, [np.full((2048, 2048, 3), 130, dtype=np.uint8)])
    slide = replace(slide, scores={**slide.scores, "slide_print": slide_fingerprint(path)})
    assert picture_of(slide).source == "slide"
    crash_at(monkeypatch, "scripts.slides.box", path.name)
    assert picture_of(slide).source == "thumbnail"
