"""The OME-TIFF read by others than its writer: ome-types for the description, Pillow's libtiff for the pixels of every level."""

import io
from pathlib import Path

import numpy as np
import ome_types
import pytest
from inference.heat_map_views import view_of
from PIL import Image

from scripts.inference.ome_tiff import write_ome_tiff

SUB_IFDS = 330


def write(path: Path, cam: np.ndarray, *, mpp: tuple[float, float] | None = (0.5, 0.25)) -> Path:
    write_ome_tiff(path, view_of(cam, mpp_xy=mpp, class_name="tumour <1>"))
    return path


def read_levels(path: Path) -> list[np.ndarray]:
    """Level 0, then those of its SubIFDs, each reached by pointing the head of the file at it."""
    data = path.read_bytes()
    with Image.open(path) as image:
        levels, offsets = [np.asarray(image)], image.tag_v2.get(SUB_IFDS, ())
    for offset in (offsets,) if isinstance(offsets, int) else offsets:
        with Image.open(io.BytesIO(data[:4] + offset.to_bytes(4, "little") + data[8:])) as image:
            levels.append(np.asarray(image))
    return levels


def test_description_says_where_and_how_large(tmp_path: Path) -> None:
    cam = np.random.default_rng(0).random((6, 9), dtype=np.float32)
    (image,) = ome_types.from_tiff(write(tmp_path / "cam.ome.tif", cam)).images
    pixels = image.pixels
    assert (pixels.size_x, pixels.size_y, pixels.size_c, pixels.type.value) == (9, 6, 1, "float")
    assert (pixels.physical_size_x, pixels.physical_size_y) == (64, 32)
    assert (pixels.physical_size_x_unit.value, pixels.physical_size_y_unit.value) == ("µm", "µm")
    assert [channel.name for channel in pixels.channels] == ["tumour <1>"]
    (plane,) = pixels.planes
    assert (plane.position_x, plane.position_y) == (640 * 0.5, 256 * 0.25)
    assert (plane.position_x_unit.value, plane.position_y_unit.value) == ("µm", "µm")


def test_values_and_resolution_tags(tmp_path: Path) -> None:
    cam = np.random.default_rng(0).random((6, 9), dtype=np.float32)
    path = write(tmp_path / "cam.ome.tif", cam)
    (level,) = read_levels(path)
    np.testing.assert_array_equal(level, cam)
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx((25400 / 64, 25400 / 32))
        assert (image.mode, image.tile[0][0]) == ("F", "libtiff")


def test_every_level_is_the_mean_of_the_last(tmp_path: Path) -> None:
    cam = np.random.default_rng(0).random((515, 300), dtype=np.float32)
    levels = read_levels(write(tmp_path / "cam.ome.tif", cam))
    assert [level.shape for level in levels] == [(515, 300), (258, 150), (129, 75)]
    np.testing.assert_array_equal(levels[0], cam)
    np.testing.assert_allclose(levels[1][7, 9], cam[14:16, 18:20].mean(), rtol=1e-6)
    np.testing.assert_allclose(levels[1][257, 9], cam[514, 18:20].mean(), rtol=1e-6)  # the last row has no second
    np.testing.assert_allclose(levels[2][128, 74], levels[1][256:, 148:].mean(), rtol=1e-6)


@pytest.mark.parametrize(("shape_yx", "levels"), [((1, 1), 1), ((256, 256), 1), ((257, 1), 2), ((1, 1025), 4)])
def test_any_shape(tmp_path: Path, shape_yx: tuple[int, int], levels: int) -> None:
    cam = np.ones(shape_yx, dtype=np.float32)
    read = read_levels(write(tmp_path / "cam.ome.tif", cam))
    assert len(read) == levels
    assert all((level == 1).all() for level in read)


def test_without_a_resolution_nothing_is_said_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "cam.ome.tif", np.ones((6, 9), dtype=np.float32), mpp=None)
    (image,) = ome_types.from_tiff(path).images
    assert (image.pixels.physical_size_x, image.pixels.planes) == (None, [])
    with Image.open(path) as opened:
        assert "dpi" not in opened.info or opened.info["dpi"] == (1, 1)
