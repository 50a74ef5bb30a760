"""Slides whose every quarter of a patch has a known mean colour and yet the texture of tissue, and encoders without weights."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.slides.reader import SlideReader

PATCH_PX = 32  # 64 um at 2 um/px
QUARTER_PX = 16
MPP = 2.0
GLASS = 244
CONTRAST = 40


def quarter_colours(rows: int, columns: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw a colour of stained tissue for every quarter of rows x columns patches, (2 rows, 2 columns, 3), multiples of 4."""
    drawn = np.random.default_rng(seed).integers((35, 20, 32), (45, 32, 45), (2 * rows, 2 * columns, 3)) * 4
    return drawn.astype(np.uint8)


def paint(colours: NDArray[np.uint8], *, quarter_px: int = QUARTER_PX) -> NDArray[np.uint8]:
    """Paint a chequerboard (2 px) around each colour: its mean over a quarter is the colour, its run lengths are tissue's."""
    flat = colours.repeat(quarter_px, axis=0).repeat(quarter_px, axis=1).astype(np.int16)
    y, x = np.indices(flat.shape[:2])
    sign = np.where((y // 2 + x // 2) % 2, 1, -1)[..., None]
    return (flat + CONTRAST * sign).astype(np.uint8)


def on_glass(
    tissue: NDArray[np.uint8], *, size_xy_px: tuple[int, int], corner_xy_px: tuple[int, int] = (0, 0)
) -> NDArray[np.uint8]:
    """Lay ``tissue`` on a slide of glass, cut where it goes past the border."""
    slide = np.full((size_xy_px[1], size_xy_px[0], 3), GLASS, dtype=np.uint8)
    x, y = corner_xy_px
    inside = slide[y : y + len(tissue), x : x + tissue.shape[1]]
    inside[:] = tissue[: len(inside), : inside.shape[1]]
    return slide


def write_tiff(path: Path, levels: Sequence[NDArray[np.uint8]], *, mpp: float = MPP) -> Path:
    """Write a lossless tiled pyramid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for index, pixels in enumerate(levels):
            file.write(
                pixels,
                tile=(64, 64),
                photometric="rgb",
                compression="zlib",
                subfiletype=int(index > 0),
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def write_painted_slide(path: Path, *, rows: int = 3, columns: int = 4, seed: int = 0) -> Path:
    """Write a slide that is all tissue, ``rows`` x ``columns`` patches."""
    return write_tiff(path, [paint(quarter_colours(rows, columns, seed=seed))])


class MeanEncoder(nn.Module):
    """Mean, and mean of the upper left quarter, of each channel, times a weight: 6 figures."""

    input_px = 16
    channels = 6

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, patches: Tensor) -> Tensor:
        quarter = patches[..., : self.input_px // 2, : self.input_px // 2]
        return self.weight * torch.cat([patches.mean(dim=(2, 3)), quarter.mean(dim=(2, 3))], dim=1)


class CountingSlide(SlideReader):
    """All tissue without a file; remembers how many bytes each read gave."""

    backend = "counting"

    def __init__(self, path: Path, *, size_xy_px: tuple[int, int]) -> None:
        super().__init__(path, level_sizes_xy_px=(size_xy_px,), mpp_xy=(MPP, MPP))
        self.reads_bytes: list[int] = []

    def _decode(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        width, height = size_xy_px
        colours = np.full((-(-height // QUARTER_PX), -(-width // QUARTER_PX), 3), 120, dtype=np.uint8)
        for _ in corners_xy:
            read = paint(colours)[None, :height, :width]
            self.reads_bytes.append(read.nbytes)
            yield read, np.ones(1, dtype=bool)

    def close(self) -> None:
        pass


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 over every value and attribute of each embedding file; HDF5's own bytes may differ between equal files."""
    found = {}
    for path in sorted(folder.glob("[!.]*.h5")):
        digest = hashlib.sha256()

        def add(name: str, item: h5py.HLObject, digest: Any = digest) -> None:
            digest.update(f"{name} {sorted((key, str(value)) for key, value in item.attrs.items())}".encode())
            if isinstance(item, h5py.Dataset):
                digest.update(f"{item.shape} {item.dtype}".encode() + item[()].tobytes())

        with h5py.File(path) as file:
            add("/", file)
            file.visititems(add)
        found[path.name] = digest.hexdigest()
    return found
