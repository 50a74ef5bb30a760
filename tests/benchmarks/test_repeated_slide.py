from pathlib import Path

import numpy as np
from repeated_slide import GLASS, MPP, TILE_PX, write_repeated_slide

from scripts.slides.opening import open_slide


def test_slide_is_a_disc_of_tissue_on_glass(tmp_path: Path) -> None:
    path = write_repeated_slide(tmp_path / "slide.tif", side_px=8 * TILE_PX)
    with open_slide(path) as reader:
        assert reader.level_sizes_xy_px[:2] == ((2048, 2048), (1024, 1024))
        np.testing.assert_allclose(reader.mpp_xy, MPP, rtol=1e-3)
        corner, middle = reader.read_patches(np.array([(0, 0), (1024, 1024)]), size_xy_px=(TILE_PX, TILE_PX), level=0)
    assert np.abs(corner.astype(int) - GLASS).max() <= 2
    assert middle.std() > 10


def test_flat_slide_has_one_level(tmp_path: Path) -> None:
    path = write_repeated_slide(tmp_path / "slide.tif", side_px=8 * TILE_PX, flat=True)
    with open_slide(path) as reader:
        assert len(reader.level_sizes_xy_px) == 1
