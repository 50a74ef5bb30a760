"""MONAI transforms of a slide: its observed vectors, their places on V's grid, and T, which always move together."""

from collections.abc import Mapping
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from ..common.apart import run_apart
from ..common.boundary import slide_boundary
from ..common.option_table import checked
from ..common.option_types import Number
from ..dsnet.packing import WHITE
from ..encoding.embedding_file import read_embedding
from ..encoding.store import Embedding, observed_places
from ..encoding.thumbnail import DEFAULT_LEVELS, build_thumbnail
from ..slides.geometry import T_PIXELS_PER_PATCH, PatchGrid
from ..slides.opening import open_slide
from .batches import numbers_of


class LoadEmbeddingd(MapTransform):
    """Read ``item["embedding"]`` and set ``vectors`` (N, C), ``places`` (1, H, W) and ``t`` (3L, 2H, 2W).

    ``vectors`` are v of the patches, in the type in which the file holds them. ``places`` is a map on V's grid, int32: the number
    of the vector that lies there, from 1; 0 where no patch was observed. ``t`` is T, uint8 intensities. So a slide takes the
    memory of its observed patches, and what moves it in space moves ``places`` and ``t``, as any two maps; the network's input
    is made of a batch, see :mod:`.batches`.

    ``item["channel_range"]`` says which channels of v are used, ``item["thumbnail_levels"]`` how many levels of T. Where the file
    has no T it is made from ``item["slide"]`` if that file exists, else it is white. Keys: the key of the embedding's path.
    """

    def __init__(self, keys: KeysCollection = "embedding") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with ``vectors``, ``places`` and ``t``.

        Raises:
            SlideError: the file is damaged, v is zero in the channels used, or T cannot be made from the slide.
        """
        item = dict(data)
        path = Path(item[self.keys[0]])
        with slide_boundary(path):
            embedding = read_embedding(path)
            places = observed_places(embedding, item["channel_range"], path)
            used = embedding.features[:, slice(*item["channel_range"])]
            item["vectors"] = torch.from_numpy(np.ascontiguousarray(used))
            item["places"] = torch.from_numpy(places[None])
            item["t"] = thumbnail_of(embedding, slide=Path(item["slide"]), levels=item["thumbnail_levels"])
        return item


def thumbnail_of(embedding: Embedding, *, slide: Path, levels: int) -> Tensor:
    """T of a slide, uint8 intensities (3L, 2H, 2W).

    ``levels`` are the first L that are used; 0 says that the network runs on V alone: T is then white.
    """
    rows, columns = embedding.shape_yx
    if not levels:
        return _white(DEFAULT_LEVELS, rows, columns)
    if embedding.thumbnail is not None:
        pixels = embedding.thumbnail[:, :, : 3 * levels]
    elif slide.is_file():
        pixels = run_apart(partial(_thumbnail_from, embedding.grid, levels), slide, slide)
    else:
        return _white(levels, rows, columns)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _white(levels: int, rows: int, columns: int) -> Tensor:
    size = (3 * levels, T_PIXELS_PER_PATCH * rows, T_PIXELS_PER_PATCH * columns)
    return torch.full(size, WHITE, dtype=torch.uint8)


def _thumbnail_from(grid: PatchGrid, levels: int, slide: Path) -> NDArray[np.uint8]:
    with open_slide(slide) as reader:
        return build_thumbnail(reader, grid, levels=levels)


class RandTrimd(MapTransform, RandomizableTransform):
    """Discard at most ``most`` rows and ``most`` columns of V at the borders, and what lies there of T (IV-D.b) and of other maps.

    Ours: at most a quarter of a side, for small slides; and a crop that would lose every observed patch is not made.

    Args:
        keys: the places, then T, then further maps on V's grid, if any.
        prob: probability of a crop.
        most: rows, and columns, of V discarded at most.
    """

    def __init__(self, keys: KeysCollection = ("places", "t"), prob: float = 1.0, most: int = 7) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.most = most

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with all maps cropped alike."""
        item = dict(data)
        self.randomize(None)
        places_key, t_key, *others = self.keys
        height, width = item[places_key].shape[-2:]
        spans = [self._span(size) for size in (height, width)]
        (top, bottom), (left, right) = spans
        cropped = item[places_key][..., top:bottom, left:right]
        if self._do_transform and bool((cropped != 0).any()):
            k = T_PIXELS_PER_PATCH
            for key in (places_key, *others):
                item[key] = item[key][..., top:bottom, left:right]
            item[t_key] = item[t_key][..., k * top : k * bottom, k * left : k * right]
        return item

    def _span(self, size: int) -> tuple[int, int]:
        """Draw what stays of a side."""
        discarded = int(self.R.randint(0, min(self.most, size // 4) + 1))
        before = int(self.R.randint(0, discarded + 1))
        return before, size - (discarded - before)


class RandDropPatchesd(MapTransform, RandomizableTransform):
    """Leave out a part of a slide's patches, as if they had not been observed; T stays whole.

    The part is drawn anew every time, between none and ``most``; at least one patch stays.

    Args:
        keys: the places, then further maps on V's grid, if any; all get zeros there.
        prob: probability of leaving any out.
        most: largest part of the observed patches that is left out.

    Raises:
        RequestError: ``most`` is not from 0 to 1.
    """

    def __init__(self, keys: KeysCollection = "places", prob: float = 1.0, most: float = 0.3) -> None:
        checked("RandDropPatchesd: most", most, Number(least=0, most=1))
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.most = most

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with zeros in every map where a patch is left out."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        rows, columns = torch.nonzero(item[self.keys[0]][0], as_tuple=True)
        dropped = self.R.permutation(len(rows))[: min(int(self.R.uniform(0, self.most) * len(rows)), len(rows) - 1)]
        for key in self.keys:
            item[key] = item[key].clone()
            item[key][:, rows[dropped], columns[dropped]] = 0
        return item


class RandTurnPatchesd(MapTransform, RandomizableTransform):
    """Flip and turn the pixels of a slide's patches, all alike, where its vectors are raw patches.

    Their places stay: the flips of a slide's maps move these, and nothing within a patch. Each of the eight ways is as likely.

    Args:
        keys: the vectors, (N, 3 side^2), as :class:`..encoding.raw.RawPatches` leaves them.
        prob: probability of any change.
    """

    def __init__(self, keys: KeysCollection = "vectors", prob: float = 1.0) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with other vectors."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        flipped, turns = bool(self.R.randint(2)), int(self.R.randint(4))
        for key in self.keys:
            side = isqrt(item[key].shape[1] // 3)
            pixels = item[key].view(-1, 3, side, side)
            pixels = torch.rot90(pixels.flip(3) if flipped else pixels, turns, (2, 3))
            item[key] = pixels.reshape(item[key].shape)
        return item


class RandJitterd(MapTransform, RandomizableTransform):
    """Vary a slide's V as another stain or scanner would: each channel gains a factor and a shift.

    Both are drawn anew every time from normal distributions, in units of the channel's spread over the slide's observed patches.

    Args:
        keys: the vectors, then their places.
        prob: probability of any change.
        gain: standard deviation of the factor around 1, which moves a channel's values about their mean.
        shift: standard deviation of the shift, in standard deviations of the channel.

    Raises:
        RequestError: ``gain`` or ``shift`` is negative.
    """

    def __init__(
        self,
        keys: KeysCollection = ("vectors", "places"),
        prob: float = 1.0,
        gain: float = 0.1,
        shift: float = 0.3,
    ) -> None:
        checked("RandJitterd: gain", gain, Number(least=0))
        checked("RandJitterd: shift", shift, Number(least=0))
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.gain = gain
        self.shift = shift

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with other vectors, float32, of the patches that have a place."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        key, places_key = self.keys
        places = convert_to_tensor(item[places_key], track_meta=False)
        values = item[key][numbers_of(places)].float().T.contiguous()
        gain, shift = (torch.from_numpy(self.R.standard_normal((len(values), 1)).astype(np.float32)) for _ in range(2))
        deviation, mean = torch.std_mean(values, dim=1, correction=0, keepdim=True)
        item[key] = (mean + (values - mean) * (1 + self.gain * gain) + self.shift * shift * deviation).T
        item[places_key] = places.masked_scatter(places != 0, torch.arange(1, 1 + values.shape[1], dtype=places.dtype))
        return item
