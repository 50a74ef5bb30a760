"""HDF5 files: new ones, whose failure is an error; and those of others, which hold what they say and no other file."""

import os
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

SLACK_BYTES = 1 << 24
MOST_EXPANSION = 1100  # DEFLATE gives at most 1032 bytes per byte
EDGE_BYTES = 1 << 20
"""Of a file at either end, where the texts of its attributes lie."""

METADATA_BYTES = 1 << 26
"""What HDF5 keeps in memory of where the values of a new file lie: enough for half a million chunks."""

_HEAP = struct.Struct("<4sB3xQ")  # "GCOL", version, bytes of it all
_HEAP_OBJECT = struct.Struct("<HH4xQ")  # number, references, bytes


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield a new file to write to.

    Where an error ends the block, what HDF5 still holds back goes nowhere, and the file is worth nothing. HDF5 would try to write
    it when it closes the file. Where that fails too, as on a full disk, it ends the whole process with a segmentation fault.

    Raises:
        OSError, RuntimeError: it cannot be written.
    """
    file = _NewFile(path, "w")
    with ExitStack() as failed:
        failed.callback(_abandon, file)
        _keep_metadata(file)
        yield file
        file.flush()
        failed.pop_all()
    file.close()


class _NewFile(h5py.File):
    """A file whose datasets stay open as long as it does: one that is closed before writes, and does not tell of a failure."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._made: list[h5py.Dataset] = []

    def create_dataset(self, *args: Any, **options: Any) -> h5py.Dataset:
        made = super().create_dataset(*args, **options)
        self._made.append(made)
        return made


def _keep_metadata(file: h5py.File) -> None:
    """Let HDF5 read nothing back of what it has written about the file itself: closing it can then do without the disk."""
    cache = file.id.get_mdc_config()
    cache.set_initial_size = True
    cache.initial_size = cache.min_size = cache.max_size = METADATA_BYTES
    file.id.set_mdc_config(cache)


def _abandon(file: h5py.File) -> None:
    """Close a file whose descriptor, on Linux, now leads to memory: of that, nothing but what HDF5 holds back is ever filled."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))  # it holds for memory, too
    try:
        if sys.platform.startswith("linux"):
            with suppress(OSError):  # no descriptor is left: the disk takes what it takes
                memory = os.memfd_create("nowhere")
                os.dup2(memory, file.id.get_vfd_handle())
                os.close(memory)
        with suppress(OSError, RuntimeError):  # what went wrong is known already
            file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading; nothing that is read from it comes from another file.

    Raises:
        OSError: it is no HDF5 file.
        ValueError: a link, an external storage or a virtual dataset leads to another file.
    """
    file = h5py.File(path, "r")
    with ExitStack() as opened:
        opened.enter_context(file)
        require_texts_that_end(file)
        outside = file.visititems_links(lambda name, link: _leads_outside(file, name, link))
        if outside:
            raise ValueError(f"{outside}, expected all of its content in the file itself")
        opened.pop_all()  # the caller closes it
    return file


def require_texts_that_end(file: h5py.File) -> None:
    """Refuse a file that HDF5 would read without an end: a heap of texts with zeros over it, whose next object is the same one.

    Of a file of more than two edges, those are looked at.

    Raises:
        OSError: it has such a heap, or cannot be read.
    """
    descriptor = file.id.get_vfd_handle()
    size = os.fstat(descriptor).st_size
    parts = [(2 * EDGE_BYTES, 0)]
    if size > 2 * EDGE_BYTES:
        parts.append((EDGE_BYTES, size - EDGE_BYTES))
    for length, start in parts:
        part = os.pread(descriptor, length, start)
        place = part.find(b"GCOL")
        while place >= 0:
            if _has_no_end(part, place):
                raise OSError(f"{file.filename}: the texts in the file are written over")
            place = part.find(b"GCOL", place + 1)


def _has_no_end(content: bytes, place: int) -> bool:
    """Whether the objects of the global heap at a place come to one that takes no bytes (HDF5 file format, III.E)."""
    if place + _HEAP.size > len(content):
        return False
    _, version, size = _HEAP.unpack_from(content, place)
    end, place = min(place + size, len(content)), place + _HEAP.size
    while version == 1 and place + _HEAP_OBJECT.size <= end:
        number, _, size = _HEAP_OBJECT.unpack_from(content, place)
        taken = size if number == 0 else _HEAP_OBJECT.size + (size + 7) // 8 * 8
        if not taken:
            return True
        place += taken
    return False


def _leads_outside(file: h5py.File, name: str | bytes, link: object) -> str | None:
    """Say of a link that it, or the dataset behind it, leads to another file; soft links are names within the file."""
    if isinstance(link, h5py.SoftLink):
        return None
    if not isinstance(link, h5py.HardLink):
        return f"{name!r} is a link to another file"
    item = file.get(name)
    if isinstance(item, h5py.Dataset):
        if item.external:
            return f"{name!r} keeps its values in another file"
        if item.is_virtual and any(source.file_name != "." for source in item.virtual_sources()):
            return f"{name!r} is made of datasets in other files"
    return None


def dataset_of(file: h5py.File | h5py.Group, name: str) -> h5py.Dataset:
    """Return a dataset whose values may be read: the file holds as many bytes as its shape states.

    Raises:
        ValueError: there is none of that name, or it states more than the file holds.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"no dataset {name!r} (it has {', '.join(file) or 'none'})")
    stored = found.id.get_storage_size()
    if found.id.get_create_plist().get_nfilters():
        stored *= MOST_EXPANSION
    if found.nbytes > SLACK_BYTES + stored:
        raise ValueError(f"dataset {name!r} states {found.nbytes} bytes of values, of which the file holds {stored}")
    return found
