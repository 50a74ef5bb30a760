"""The file ``patches.h5``: the training patches of all slides, one after the other."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np

from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.files import atomic_path
from ..common.hdf5 import dataset_of, new_hdf5, open_hdf5
from ..slides.geometry import PATCH_PX
from .draw import SlideSample

FORMAT = "dsnet-patches/1"
CHECKED_PATCHES = 64

Append = Callable[[str, SlideSample], None]


@contextmanager
def patch_writer(path: Path, attributes: Mapping[str, str | int | float]) -> Iterator[Append]:
    """Yield a function that appends the sample of a slide, named by its id; the file appears only when it is whole.

    The file holds, for N patches in all, ``patches`` uint8 (N, 112, 112, 3) RGB; ``coords`` int64 (N, 2) x, y in level-0
    pixels; ``rich`` bool (N,); and ``slide_id`` text (N,). At its root are ``format`` and ``attributes``. Each patch has a
    checksum, which HDF5 compares when it reads. The file grows slide by slide, so the memory does not depend on the number of
    slides.
    """
    with atomic_path(path) as partial, new_hdf5(partial) as file:
        file.attrs.update({"format": FORMAT, **attributes})
        columns: tuple[tuple[str, tuple[int, ...], object], ...] = (
            ("patches", (PATCH_PX, PATCH_PX, 3), np.uint8),
            ("coords", (2,), np.int64),
            ("rich", (), np.bool_),
            ("slide_id", (), h5py.string_dtype()),
        )
        for name, item, dtype in columns:
            chunk = 1 if name == "patches" else 4096  # with a checksum, all of a chunk is read
            file.create_dataset(
                name,
                (0, *item),
                maxshape=(None, *item),
                dtype=dtype,
                chunks=(chunk, *item),
                fletcher32=name != "slide_id",  # which HDF5 has not for text
            )

        def append(slide_id: str, sample: SlideSample) -> None:
            start, stop = len(file["patches"]), len(file["patches"]) + len(sample.patches)
            values = {"patches": sample.patches, "coords": sample.coords_xy_px, "rich": sample.rich}
            for name, value in {**values, "slide_id": slide_id}.items():
                file[name].resize(stop, axis=0)
                file[name][start:stop] = value

        yield append


def open_patches(path: Path) -> h5py.File:
    """Open a file of patches for reading.

    Raises:
        RequestError: The file is missing, is no file of patches, or holds none.
    """
    remedy = "make it with configs/sample.yaml (id sampling), or correct the path"
    if not path.is_file():
        raise RequestError(f"{path}: no such file, expected a file of patches: {remedy}")
    with file_boundary(path, "not readable", f"a file of patches: {remedy}"), ExitStack() as opened:
        file = opened.enter_context(open_hdf5(path))
        what = _fault(file)
        if what:
            raise RequestError(f"{path}: {what}, expected {FORMAT!r} with one patch at least: {remedy}")
        opened.pop_all()  # the caller closes it
    return file


def whole_patches(path: str | Path) -> AbstractContextManager[None]:
    """What patches are read inside: damage is an error that names the file and the remedy."""
    return file_boundary(path, "damaged", "patches as the stage sampling wrote them: sample anew")


def _fault(file: h5py.File) -> str:
    """What is wrong with a file of patches; an empty string for nothing."""
    found = file.attrs.get("format")
    if found != FORMAT:
        return f"format {found!r}"
    patches = dataset_of(file, "patches")
    if patches.dtype != np.uint8 or patches.shape[1:] != (PATCH_PX, PATCH_PX, 3):
        return f"patches {patches.dtype} {patches.shape}"
    lengths = {len(dataset_of(file, name)) for name in ("patches", "coords", "rich", "slide_id")}
    if len(lengths) > 1:
        return "columns of different length"
    return "" if len(patches) else "no patch in it"


def fingerprint(path: str | Path) -> str:
    """Return what tells a file of patches from any other, in 64 hexadecimal digits; it names no slide.

    Made of all that the file says of its patches, such as their slides and places, and of the pixels of some, evenly spaced: those
    of all take seconds.

    Raises:
        RequestError: see :func:`open_patches`.
    """
    digest = hashlib.sha256()
    with open_patches(Path(path)) as file, whole_patches(path):
        patches = file["patches"]
        said = {name: file[name][()].tolist() for name in sorted(set(file) - {"patches"})}
        digest.update(repr((patches.shape, said)).encode())
        for index in np.linspace(0, len(patches) - 1, min(CHECKED_PATCHES, len(patches))).round().astype(int):
            digest.update(patches[index].tobytes())
    return digest.hexdigest()
