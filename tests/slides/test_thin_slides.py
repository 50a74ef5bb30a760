"""On a needle biopsy, the rounding of the short side of a level says nothing of how far its rows are apart."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from scripts.slides.opening import Reading, open_slide

WIDTH, HEIGHT, EDGE, STEP = 511, 24_000, 20_480, 16


@pytest.mark.parametrize("backend", ["cucim", "tifffile", "openslide"])
def test_a_row_far_down_is_found_at_every_level(tmp_path: Path, backend: str) -> None:
    if backend != "tifffile":
        pytest.importorskip(backend)
    pixels = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    pixels[EDGE:] = 90
    path = tmp_path / "thin.tif"
    with tifffile.TiffWriter(path) as file:
        for step in (1, STEP):
            level = pixels[: HEIGHT // step * step : step, : WIDTH // step * step : step]
            file.write(level, tile=(256, 256), photometric="rgb", subfiletype=int(step > 1))
    with open_slide(path, Reading(backend=backend)) as reader:
        assert reader.level_downsamples == (1, STEP)
        (patch,) = reader.read_patches(np.array([[0, EDGE]]), size_xy_px=(16, 16), level=1)
        (before,) = reader.read_patches(np.array([[0, EDGE - STEP]]), size_xy_px=(16, 16), level=1)
    assert (patch == 90).all()
    assert (before[0] == 255).all() and (before[1:] < 100).all(), "OpenSlide blends neighbours"
