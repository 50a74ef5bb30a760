"""Transformation of one slide: patches to V, tissue mask to O, low magnifications to T."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import monai
import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import SlideError
from ..common.version import BUNDLE_VERSION
from ..slides.geometry import PATCH_PX, T_PIXELS_PER_PATCH
from ..slides.opening import DEFAULT_READING, Reading, open_slide
from ..slides.reader import SlideReader
from ..slides.spoiled import recorded
from ..slides.table import SlideRow
from .embedding_file import embedding_file
from .named_encoder import NamedEncoder
from .prepared import PreparedSlide, plan_of, prepare_slide
from .scan import Spool, scan_slide, serves_all
from .settings import EncodingSettings, parameters_of
from .store import FORMAT
from .thumbnail import build_thumbnail, stack_thumbnails
from .tissue_record import write_tissue
from .writer import CHUNK_ROWS, append_rows, embedding_writer, write_attributes

MOST_WAITING_BYTES = 1 << 24
"""Once this much waits to be written, it is: features of raw patches are large."""

EncodedBatch = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Features of the readable ones among n patches, and which of the n are readable."""


def embed_slide(
    row: SlideRow,
    path: Path,
    *,
    encoder: NamedEncoder,
    settings: EncodingSettings,
    reading: Reading = DEFAULT_READING,
    prepared: PreparedSlide | None = None,
) -> int:
    """Write the embedding file of one slide and return the number of observed patches.

    Args:
        row: the slide.
        path: the file.
        encoder: what encodes its patches.
        settings: the settings.
        reading: how the slide is read; with ``unreadable_tiles`` "mask" the patches on such tiles are left out.
        prepared: what is known of the slide already.

    Raises:
        NoTissueError: the slide holds no tissue; nothing is written.
        SlideError: the slide cannot be read at the resolution asked for, or changes meanwhile.
        OSError: the file cannot be written.
    """
    with open_slide(row.path, reading) as reader:
        parameters = parameters_of(row, encoder.identity, settings, reader)
        if prepared is None:
            plan = plan_of(reader, row, settings)
            if serves_all(reader, plan, settings):
                path.parent.mkdir(parents=True, exist_ok=True)
                with Spool(path.parent, encoder.channels) as spool:
                    prepared = scan_slide(reader, plan, settings, encoder, spool)
                    batches = _spooled(spool, prepared)
                    return write_embedding(row, path, reader, prepared, batches, encoder, settings, parameters)
            prepared = prepare_slide(reader, plan, settings)
        batches = encoded_batches(reader, prepared, encoder)
        return write_embedding(row, path, reader, prepared, batches, encoder, settings, parameters)


def encoded_batches(
    reader: SlideReader, prepared: PreparedSlide, encoder: NamedEncoder, start: int = 0, stop: int | None = None
) -> Iterator[EncodedBatch]:
    """Read and encode the observed patches ``start`` to ``stop``, in order."""
    coords_xy_px = prepared.coords_xy_px[start:stop]
    plan = prepared.plan
    masks: deque[NDArray[np.bool_]] = deque()

    def readable_patches() -> Iterator[NDArray[np.uint8]]:
        size = (plan.read_px, plan.read_px)
        batches = reader.iter_patches(coords_xy_px, size_xy_px=size, level=plan.level, batch_size=encoder.batch_size)
        done = 0
        for patches in batches:
            coords = coords_xy_px[done : done + len(patches)]
            readable = ~reader.unreadable(coords, size_xy_px=size, level=plan.level)
            readable &= recorded(reader, coords, patches, plan.level)
            done += len(patches)
            masks.append(readable)
            yield patches if readable.all() else patches[readable]

    for features in encoder.encode_all(readable_patches()):
        yield features, masks.popleft()


def joined(
    batches: Iterable[EncodedBatch], rows: int = CHUNK_ROWS, most_bytes: int = MOST_WAITING_BYTES
) -> Iterator[EncodedBatch]:
    """Join batches until they have ``rows`` patches or ``most_bytes``: HDF5 takes as long for 64 rows as for thousands."""
    waiting: list[EncodedBatch] = []
    for batch in batches:
        waiting.append(batch)
        patches, waiting_bytes = (sum(sizes) for sizes in zip(*((len(m), f.nbytes) for f, m in waiting), strict=True))
        if patches >= rows or waiting_bytes >= most_bytes:
            whole, waiting = join_batches(waiting), []
            yield whole
    if waiting:
        yield join_batches(waiting)


def join_batches(batches: Sequence[EncodedBatch]) -> EncodedBatch:
    """Make one batch of one or more."""
    if len(batches) == 1:
        return batches[0]
    features, readable = zip(*batches, strict=True)
    return np.concatenate(features), np.concatenate(readable)


def write_embedding(
    row: SlideRow,
    path: Path,
    reader: SlideReader,
    prepared: PreparedSlide,
    batches: Iterable[EncodedBatch],
    encoder: NamedEncoder,
    settings: EncodingSettings,
    parameters: str,
) -> int:
    """Write the file from batches that cover the observed patches in order; return the number of patches in it.

    Raises:
        SlideError: no patch is readable, the pixels cannot be decoded, the encoder gave numbers that are not finite, or the slide
            changed since ``parameters`` were taken.
        OSError: the file cannot be written.
    """
    grid_yx, coords_xy_px = prepared.grid_yx, prepared.coords_xy_px
    remember = embedding_file(path).remember
    channels, dtype = encoder.channels, encoder.dtype
    with embedding_writer(path, patches=len(grid_yx), channels=channels, dtype=dtype, announce=remember) as file:
        done = 0
        for features, readable in joined(_finite(row, batches)):
            rows = slice(done, done + len(readable))
            done += len(readable)
            append_rows(file, features=features, grid=grid_yx[rows][readable], coords=coords_xy_px[rows][readable])
        patches = len(file["features"])
        if not patches:
            raise SlideError(
                f"{row.path}: every patch of tissue lies on an unreadable tile, expected one that can be read: copy the slide anew"
            )
        file["coords"].attrs.update({"patch_size_level0": prepared.grid.patch_px_level0, "name": row.slide_id})
        file["thumbnail"] = _thumbnail(reader, prepared, levels=settings.thumbnail_levels)
        write_tissue(file.create_group("tissue"), prepared.tissue)
        attributes = _attributes(row, reader, prepared, patches, encoder, settings)
        write_attributes(file, {**attributes, "parameters": parameters})
        if parameters_of(row, encoder.identity, settings, reader) != parameters:
            raise SlideError(
                f"{row.path}: changed while it was read, expected a slide at rest: run the same command again"
            )
    return patches


def _finite(row: SlideRow, batches: Iterable[EncodedBatch]) -> Iterator[EncodedBatch]:
    """Yield the batches, each once its features are seen to be finite."""
    for features, readable in batches:
        bad = np.count_nonzero(~np.isfinite(features).all(axis=1))
        if bad:
            raise SlideError(
                f"{row.path}: the encoder gave NaN or infinity for {bad} of {len(features)} patches of a batch, expected "
                "finite features: check its weights, or encode with precision float32"
            )
        yield features, readable


def _spooled(spool: Spool, prepared: PreparedSlide) -> Iterator[EncodedBatch]:
    """Yield what a scan has left, as if it were encoded only now."""
    for features in spool.take(prepared.tissue.mask.ravel()):
        yield features, np.ones(len(features), dtype=bool)


def _thumbnail(reader: SlideReader, prepared: PreparedSlide, *, levels: int) -> NDArray[np.uint8]:
    """T of the box, from what a scan has seen or else from the pyramid."""
    if prepared.finest is None:
        return build_thumbnail(reader, prepared.grid, levels=levels)
    y, x, height, width = (T_PIXELS_PER_PATCH * side for side in prepared.tissue.box)
    return stack_thumbnails(prepared.finest[y : y + height, x : x + width], levels=levels)


def _attributes(
    row: SlideRow,
    reader: SlideReader,
    prepared: PreparedSlide,
    patches: int,
    encoder: NamedEncoder,
    settings: EncodingSettings,
) -> dict[str, object]:
    plan, grid = prepared.plan, prepared.grid
    rows, columns = grid.shape_yx
    slide_bytes = 3 * reader.level_sizes_xy_px[0][0] * reader.level_sizes_xy_px[0][1]
    levels = settings.thumbnail_levels
    embedding_bytes = (
        encoder.dtype.itemsize * patches * encoder.channels + 3 * levels * T_PIXELS_PER_PATCH**2 * rows * columns
    )
    return {
        "format": FORMAT,
        "slide": row.path.name,
        "patches": patches,
        "patches_left_out": prepared.tissue.unjudged + len(prepared.grid_yx) - patches,
        "grid_shape": np.array(grid.shape_yx, dtype=np.int64),
        "origin_xy_px": np.array(grid.origin_xy_px, dtype=np.int64),
        "patch_um": settings.patch_um,
        "patch_size_level0": grid.patch_px_level0,
        "mpp_x": plan.mpp_xy[0],
        "mpp_y": plan.mpp_xy[1],
        "read_level": plan.level,
        "read_px": plan.read_px,
        "slide_size_xy_px": np.array(reader.level_sizes_xy_px[0], dtype=np.int64),
        "bounds_xywh_px": np.array(reader.bounds_xywh_px, dtype=np.int64),
        "backend": reader.backend,
        "encoder": encoder.identity,
        "engine": encoder.engine,
        "precision": settings.known_precision,
        "tissue_threshold": prepared.tissue.threshold,
        "compression_ratio": compression_ratio(encoder.channels, levels),
        "compression_ratio_bytes": slide_bytes / embedding_bytes,
        "version_bundle": BUNDLE_VERSION,
        "version_monai": monai.__version__,
        "version_torch": str(torch.__version__),
    }


def compression_ratio(channels: int, levels: int) -> float:
    """3 S^2 K^2 / (3 S^2 L + C K^2) with K = S / 2 (V-A.a): 229.5 for C = 128, L = 3."""
    k = PATCH_PX / T_PIXELS_PER_PATCH
    return 3 * PATCH_PX**2 * k**2 / (3 * PATCH_PX**2 * levels + channels * k**2)
