"""The training set of the S-CAE: one patch per item."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from monai.data import Dataset
from numpy.typing import NDArray

from .patch_file import open_patches, whole_patches

MEMORY_GB = 4.0
"""A file up to this size is held in memory; the paper's 36,000 patches take 1.35 GB."""


class PatchDataset(Dataset):
    """Items ``{"image": uint8 tensor (3, 112, 112)}`` on the scale of 0 to 255, changed by ``transform``.

    A file that fits is read once; forked workers share that memory. A larger one, and every pickled copy (a spawned
    worker), reads patch by patch from the file, which each process opens for itself.

    Args:
        path: ``patches.h5`` of the stage sampling.
        transform: MONAI transforms of such an item.
        memory_gb: largest size of the patches that is held in memory, in 1e9 bytes; 0 reads from the file.

    Raises:
        RequestError: ``path`` is no file of patches, or damaged; that of a patch is seen where it is read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any] | None = None,
        *,
        memory_gb: float = MEMORY_GB,
    ) -> None:
        self._path = Path(path)
        super().__init__(data=_PatchFile(self._path, memory_gb=memory_gb), transform=transform)

    @property
    def patch_um(self) -> float:
        """Side of a patch on the slide, in micrometres.

        Raises:
            RequestError: the file does not say.
        """
        with whole_patches(self._path), open_patches(self._path) as file:
            return float(json.loads(file.attrs["settings"])["patch_um"])


class _PatchFile(Sequence[dict[str, torch.Tensor]]):
    """The items of a file of patches."""

    def __init__(self, path: Path, *, memory_gb: float) -> None:
        self._path = path
        self._on_disk: h5py.Dataset | None = None
        self._opened_by_pid = 0
        self._pixels: NDArray[np.uint8] | None = None
        with open_patches(path) as file:
            self._length = len(file["patches"])
            if file["patches"].nbytes <= memory_gb * 1e9:
                with whole_patches(self._path):
                    self._pixels = file["patches"][:]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if not -self._length <= index < self._length:
            raise IndexError(f"patch {index} of {self._length}")
        with whole_patches(self._path):
            patch = self._source()[index % self._length]
        # A copy, so that transforms that work in place leave the patch as it is.
        return {"image": torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_on_disk": None, "_pixels": None}

    def _source(self) -> Any:
        """Return what holds the patches; HDF5 handles are not kept over a fork."""
        if self._pixels is not None:
            return self._pixels
        if self._on_disk is None or self._opened_by_pid != os.getpid():
            self._on_disk, self._opened_by_pid = open_patches(self._path)["patches"], os.getpid()
        return self._on_disk
