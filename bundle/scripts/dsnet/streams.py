"""The two streams of DSNet and their fusion (III-C, Fig. 3, Table I), which its heads share."""

from dataclasses import asdict, dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from ..common.option_table import checked
from .blocks import ChannelAttention, ConcurrentBottleneck, DenseUnit, MultiScaleBlock, StreamAttention
from .packing import unpack
from .sparse import SparseMap, SparseUnit, Standardise, slide_extent

# Table I as (outputs, stride) of each block
THUMBNAIL_STEM = 32
THUMBNAIL_BLOCKS = ((64, 1), (144, 2), (256, 2), (320, 1))
EMBEDDING_BLOCKS = ((144, 2), (224, 1), (256, 2), (320, 1))
STREAM_CHANNELS = 320


@dataclass(frozen=True)
class Parts:
    """What Table III leaves out of DSNet, one by one.

    Attributes:
        sparse: False treats every position of the slide's box as observed ("w/o sparsity").
        thumbnail_stream: False runs on V alone ("w/o thumbnail stream"); the stream score is then 1.
        multi_scale: False replaces the multi-scale blocks by separable 3x3 ones.
        concurrent_bottleneck: False makes every block of the embedding stream one separable sparse 5x5 convolution.
        spatial_bottleneck: False removes the pooling and unpooling only.
        stream_attention: False adds both streams with equal weight; the stream score is then 0.5.
        channel_attention: False leaves the channels as they are; the channel scores are then 1.
    """

    sparse: bool = True
    thumbnail_stream: bool = True
    multi_scale: bool = True
    concurrent_bottleneck: bool = True
    spatial_bottleneck: bool = True
    stream_attention: bool = True
    channel_attention: bool = True


class Fused(NamedTuple):
    """What both streams give.

    Attributes:
        joint: the joint map, (B, 320, ceil(H/4), ceil(W/4)).
        stream_score: (B,), Fig. 8.
        channel_scores: (B, 320), Fig. 9.
        skips: where they are kept, the maps before every block of stride 2, V first.
    """

    joint: SparseMap
    stream_score: Tensor
    channel_scores: Tensor
    skips: list[SparseMap]


class DualStream(nn.Module):
    """The embedding stream on V, the thumbnail stream on T, and their adaptive aggregation: all of DSNet but its head.

    Every operator is confined to the slide's own extent, so that padding a batch with zeros on the right and at the bottom (empty
    patches, white thumbnail) changes nothing. A slide whose T is white all over has none: its stream score is 1.

    A head that needs what enters the blocks of stride 2 sets ``keeps_skips``.

    Args:
        num_classes: classes of the slide label.
        embedding_channels: C, channels of V (128 for S-CAE; features of other encoders have 384 to 2560).
        thumbnail_levels: L, thumbnails stacked in T (Table IV).
        projection: channels that a sparse 1x1 convolution, norm and leaky ReLU leave of V before anything spatial, for features of
            many channels; None takes V as it is, as in the paper.
        parts: those of :class:`Parts`.

    Raises:
        RequestError: ``projection`` is not a number of channels.
        TypeError: there is no such part.
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        embedding_channels: int = 128,
        thumbnail_levels: int = 3,
        projection: int | None = None,
        **parts: Annotated[bool, Parts],
    ) -> None:
        checked("projection", projection, null=True)
        with_parts = Parts(**parts)
        super().__init__()
        self.arguments: dict[str, object] = {
            "num_classes": num_classes,
            "embedding_channels": embedding_channels,
            "thumbnail_levels": thumbnail_levels,
            **asdict(with_parts),
            "projection": projection,
        }
        self.embedding_channels = embedding_channels
        self.sparse = with_parts.sparse
        self.keeps_skips = False
        self.strides = [stride for _, stride in EMBEDDING_BLOCKS]
        self.standardise = Standardise(embedding_channels)
        self.projection: nn.Module | None = None
        if projection is not None:
            self.projection = SparseUnit(embedding_channels, projection)
        self.local_channels = projection or embedding_channels
        channels = self.local_channels
        embedding_blocks: list[nn.Module] = []
        for out_channels, stride in EMBEDDING_BLOCKS:
            if with_parts.concurrent_bottleneck:
                block: nn.Module = ConcurrentBottleneck(
                    channels, out_channels, stride=stride, spatial_bottleneck=with_parts.spatial_bottleneck
                )
            else:
                block = SparseUnit(channels, out_channels, 5, stride=stride, separable=True)
            embedding_blocks.append(block)
            channels = out_channels
        self.embedding_blocks = nn.ModuleList(embedding_blocks)

        self.thumbnail_stem: nn.Module | None = None
        self.stream_attention: nn.Module | None = None
        thumbnail_blocks: list[nn.Module] = []
        if with_parts.thumbnail_stream:
            self.thumbnail_stem = DenseUnit(3 * thumbnail_levels, THUMBNAIL_STEM, 7, stride=2)
            channels = THUMBNAIL_STEM
            for out_channels, stride in THUMBNAIL_BLOCKS:
                thumbnail_blocks.append(
                    MultiScaleBlock(channels, out_channels, stride=stride, multi_scale=with_parts.multi_scale)
                )
                channels = out_channels
            if with_parts.stream_attention:
                self.stream_attention = StreamAttention(STREAM_CHANNELS)
        self.thumbnail_blocks = nn.ModuleList(thumbnail_blocks)
        self.channel_attention: nn.Module | None = (
            ChannelAttention(STREAM_CHANNELS) if with_parts.channel_attention else None
        )

    def fuse(self, image: Tensor) -> Fused:
        """Run both streams and join them."""
        v, o, thumbnail = unpack(image, self.embedding_channels)
        extent = slide_extent(o)
        thumbnail_extent = torch.repeat_interleave(torch.repeat_interleave(extent, 2, dim=2), 2, dim=3)
        local = self._enter(v, o, extent)
        skips: list[SparseMap] = []
        for index, block in enumerate(self.embedding_blocks):
            if self.keeps_skips and self.strides[index] > 1:
                skips.append(local)
            local = block(local)

        stream_score = torch.ones(image.shape[0], dtype=image.dtype, device=image.device)
        values = local.values
        if self.thumbnail_stem is not None:
            regional, regional_extent = self.thumbnail_stem(thumbnail, thumbnail_extent)
            for block in self.thumbnail_blocks:
                regional, regional_extent = block(regional, regional_extent)
            stream_score = torch.full_like(stream_score, 0.5)
            if self.stream_attention is not None:
                stream_score = self.stream_attention(local.values, local.observed, regional, regional_extent)
            # a slide without T (it is then white all over, as no tissue is) is judged by its embedding stream alone
            present = (thumbnail != 0).flatten(1).any(dim=1)
            stream_score = torch.where(present, stream_score, torch.ones_like(stream_score))
            share = stream_score.view(-1, 1, 1, 1)
            values = (share * values + (1 - share) * regional) * local.observed

        channel_scores = torch.ones(image.shape[0], values.shape[1], dtype=image.dtype, device=image.device)
        if self.channel_attention is not None:
            channel_scores = self.channel_attention(values, local.observed)
            values = values * channel_scores.unsqueeze(2).unsqueeze(3)
        return Fused(SparseMap(values, local.observed, local.extent), stream_score, channel_scores, skips)

    def _enter(self, v: Tensor, o: Tensor, extent: Tensor) -> SparseMap:
        """The map that the first embedding block takes: V, standardised and projected."""
        local = SparseMap(self.standardise(v, o), o if self.sparse else extent, extent)
        if self.projection is not None:
            local = self.projection(local)
        return local

    @torch.jit.unused
    def mask_coverage(self, image: Tensor) -> list[float]:
        """Share of the slides' boxes that the mask covers, before the first embedding block and after each."""
        v, o, _ = unpack(image, self.embedding_channels)
        local = self._enter(v, o, slide_extent(o))
        shares = [float(local.observed.sum() / local.extent.sum())]
        for block in self.embedding_blocks:
            local = block(local)
            shares.append(float(local.observed.sum() / local.extent.sum()))
        return shares
