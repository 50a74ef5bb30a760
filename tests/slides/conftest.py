"""Small tiled TIFFs that stand for slides."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

TiffMaker = Callable[..., Path]


@pytest.fixture
def make_tiff(tmp_path: Path) -> TiffMaker:
    def make(
        pixels: np.ndarray,
        *,
        name: str = "slide.tif",
        mpp: float | tuple[float, float] | None = 0.5,
        steps: tuple[int, ...] = (),
        compression: str | None = "jpeg",
        description: str | None = None,
    ) -> Path:
        """Write level 0 and, for every step, a level of each step-th pixel; ``mpp`` None leaves the unit out."""
        path = tmp_path / name
        mpp_x, mpp_y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
        tags = (
            {"resolution": (1e4 / mpp_x, 1e4 / mpp_y), "resolutionunit": "CENTIMETER"}
            if mpp_x and mpp_y
            else {"resolution": (1, 1), "resolutionunit": "NONE"}
        )
        with tifffile.TiffWriter(path) as tiff:
            for step in (1, *steps):
                tiff.write(
                    pixels[::step, ::step],
                    tile=(64, 64),
                    photometric="rgb",
                    compression=compression,
                    compressionargs={"level": 90} if compression == "jpeg" else None,
                    subfiletype=int(step > 1),
                    metadata=None,
                    description=description,
                    **tags,
                )
        return path

    return make


@pytest.fixture
def pixels() -> np.ndarray:
    """RGB (200, 300, 3), smooth with texture; nowhere white or black."""
    y, x = np.mgrid[:200, :300]
    waves = [120 + 60 * np.sin(x / 9 + k) * np.cos(y / 7) + 20 * np.sin(x * y / 50 + k) for k in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)
