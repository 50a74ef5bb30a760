"""MONAI transforms from an embedding file to DSNet's ``image``; V, O and T always move together."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import list_data_collate
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..common.apart import run_apart
from ..common.boundary import slide_boundary
from ..common.errors import RequestError
from ..dsnet.packing import T_PIXELS_PER_PATCH, pack
from ..encoding.embedding_file import read_embedding
from ..encoding.store import Embedding, require_observed
from ..encoding.thumbnail import DEFAULT_LEVELS, build_thumbnail
from ..slides.geometry import PatchGrid
from ..slides.opening import open_slide


class LoadEmbeddingd(MapTransform):
    """Read ``item["embedding"]`` and set ``v`` (C, H, W) and ``t`` (3L, 2H, 2W).

    ``item["channel_range"]`` says which channels of v are used, ``item["thumbnail_levels"]`` how many levels of T. T is
    1 - intensity, so that white is zero; where the file has none it is made from ``item["slide"]`` if that file exists, else it is
    white. Keys: the key of the embedding's path.
    """

    def __init__(self, keys: KeysCollection = "embedding") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with ``v`` and ``t``.

        Raises:
            SlideError: the file is damaged, v is zero in the channels used, or T cannot be made from the slide.
        """
        item = dict(data)
        path = Path(item[self.keys[0]])
        with slide_boundary(path):
            embedding = read_embedding(path)
            require_observed(embedding, item["channel_range"], path)
            item["v"] = torch.from_numpy(embedding.matrix(item["channel_range"]))
            item["t"] = thumbnail_of(embedding, slide=Path(item["slide"]), levels=item["thumbnail_levels"])
        return item


def thumbnail_of(embedding: Embedding, *, slide: Path, levels: int) -> Tensor:
    """T as the network takes it: float32 (3L, 2H, 2W), 0 for white to 1 for black.

    ``levels`` are the first L that are used; 0 says that the network runs on V alone: T is then white.
    """
    rows, columns = embedding.shape_yx
    if not levels:
        return torch.zeros(3 * DEFAULT_LEVELS, T_PIXELS_PER_PATCH * rows, T_PIXELS_PER_PATCH * columns)
    if embedding.thumbnail is not None:
        pixels = embedding.thumbnail[:, :, : 3 * levels]
    elif slide.is_file():
        pixels = run_apart(partial(_thumbnail_from, embedding.grid, levels), slide, slide)
    else:
        return torch.zeros(3 * levels, T_PIXELS_PER_PATCH * rows, T_PIXELS_PER_PATCH * columns)
    return 1 - torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _thumbnail_from(grid: PatchGrid, levels: int, slide: Path) -> NDArray[np.uint8]:
    with open_slide(slide) as reader:
        return build_thumbnail(reader, grid, levels=levels)


class RandTrimd(MapTransform, RandomizableTransform):
    """Discard at most ``most`` rows and ``most`` columns of V at the borders, and what lies there of T (IV-D.b) and of other maps.

    Ours: at most a quarter of a side, for small slides; and a crop that would lose every observed patch is not made.

    Args:
        keys: V, then T, then maps on V's grid, if any.
        prob: probability of a crop.
        most: rows, and columns, of V discarded at most.
    """

    def __init__(self, keys: KeysCollection = ("v", "t"), prob: float = 1.0, most: int = 7) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.most = most

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with all maps cropped alike."""
        item = dict(data)
        self.randomize(None)
        v_key, t_key, *others = self.keys
        height, width = item[v_key].shape[-2:]
        spans = [self._span(size) for size in (height, width)]
        (top, bottom), (left, right) = spans
        cropped = item[v_key][..., top:bottom, left:right]
        if self._do_transform and bool((cropped != 0).any()):
            k = T_PIXELS_PER_PATCH
            for key in (v_key, *others):
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
        keys: V, then maps on V's grid, if any, which get zeros there, too.
        prob: probability of leaving any out.
        most: largest part of the observed patches that is left out.

    Raises:
        RequestError: ``most`` is not from 0 to 1.
    """

    def __init__(self, keys: KeysCollection = "v", prob: float = 1.0, most: float = 0.3) -> None:
        if not 0 <= most <= 1:
            raise RequestError(f"RandDropPatchesd: most {most}; expected a share from 0 to 1 of the patches")
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.most = most

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with zeros in every map where a patch is left out."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        v = item[self.keys[0]]
        rows, columns = torch.nonzero((v != 0).any(dim=0), as_tuple=True)
        dropped = self.R.permutation(len(rows))[: min(int(self.R.uniform(0, self.most) * len(rows)), len(rows) - 1)]
        for key in self.keys:
            item[key] = item[key].clone()
            item[key][:, rows[dropped], columns[dropped]] = 0
        return item


class RandJitterd(MapTransform, RandomizableTransform):
    """Vary a slide's V as another stain or scanner would: each channel gains a factor and a shift; the mask stays.

    Both are drawn anew every time from normal distributions, in units of the channel's spread over the slide's observed patches.

    Args:
        keys: V.
        prob: probability of any change.
        gain: standard deviation of the factor around 1, which moves a channel's values about their mean.
        shift: standard deviation of the shift, in standard deviations of the channel.

    Raises:
        RequestError: ``gain`` or ``shift`` is negative.
    """

    def __init__(self, keys: KeysCollection = "v", prob: float = 1.0, gain: float = 0.1, shift: float = 0.3) -> None:
        if gain < 0 or shift < 0:
            raise RequestError(f"RandJitterd: gain {gain}, shift {shift}; expected standard deviations of 0 or more")
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.gain = gain
        self.shift = shift

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with another V where patches were observed."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        v = item[self.keys[0]]
        observed = (v != 0).any(dim=0)
        values = v[:, observed]
        gain, shift = (torch.from_numpy(self.R.standard_normal((len(v), 1)).astype(np.float32)) for _ in range(2))
        deviation, mean = torch.std_mean(values, dim=1, correction=0, keepdim=True)
        item[self.keys[0]] = v.clone()
        item[self.keys[0]][:, observed] = (
            mean + (values - mean) * (1 + self.gain * gain) + self.shift * shift * deviation
        )
        return item


class PackMatricesd(MapTransform):
    """Join ``v`` and ``t`` into ``image`` (C + 12L, H, W), a plain tensor, and drop both; see :func:`..dsnet.packing.pack`."""

    def __init__(self, keys: KeysCollection = ("v", "t"), output_key: str = "image") -> None:
        super().__init__(keys)
        self.output_key = output_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with ``image``."""
        item = dict(data)
        v, t = (convert_to_tensor(item.pop(key), track_meta=False) for key in self.keys)
        item[self.output_key] = pack(v, t).contiguous()
        return item


class PadCollate:
    """Collate slides of different size: maps are filled up on the right and at the bottom, ``image`` with zeros.

    Like MONAI's ``PadListDataCollate(method="end")``, but of plain tensors: a MetaTensor looks at every operator of the network,
    which takes longer than many of them. Channels last, the order in which convolutions are fastest.

    Args:
        fill: value beyond a slide, by the key of the map.
    """

    def __init__(self, fill: Mapping[str, float] | None = None) -> None:
        self.fill = dict(fill or {"image": 0})

    def __call__(self, batch: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
        """Return the batch."""
        items = [dict(item) for item in batch]
        for key, value in self.fill.items():
            height, width = (max(item[key].shape[axis] for item in batch) for axis in (-2, -1))
            for item in items:
                margins = (0, width - item[key].shape[-1], 0, height - item[key].shape[-2])
                item[key] = F.pad(item[key], margins, value=value)
        collated: dict[Any, Any] = list_data_collate(items)
        for key in self.fill:
            collated[key] = collated[key].contiguous(memory_format=torch.channels_last)
        return collated
