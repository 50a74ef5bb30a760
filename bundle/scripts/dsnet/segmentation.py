"""DSNet for segmentation: the same two streams, and a decoder that gives a lesion logit a patch (the extension of section VI)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .packing import unpack
from .sparse import SparseUnit
from .streams import EMBEDDING_BLOCKS, STREAM_CHANNELS, DualStream

DECODER_CHANNELS = (128, 64)
"""Ours: outputs of the decoder at half of V's grid and at V's grid."""

NO_TISSUE_LOGIT = -30.0
"""What stands where nothing was observed: its probability, 1e-13, is nobody's finding."""


class DSNetSegmentation(DualStream):
    """Lesion map on V's grid from the embedding matrix V and the thumbnail matrix T.

    ``forward`` takes ``image`` as :class:`.network.DSNet` does and returns lesion logits (B, 1, H, W). A slide is as suspicious as its
    most suspicious patch: ``attend`` returns [0, highest logit] for it, so that the softmax of the second class is the highest lesion
    probability, and everything that takes DSNet's logits takes these.

    Args:
        num_classes: 2, without and with lesion.
        options: further arguments of :class:`.streams.DualStream`.

    Raises:
        ValueError: another number of classes.
    """

    def __init__(self, num_classes: int = 2, **options: Any) -> None:
        if num_classes != 2:
            raise ValueError(f"{num_classes} classes, expected 2: a lesion map tells lesion from no lesion")
        super().__init__(num_classes, **options, keeps_skips=True)
        self.head = LesionDecoder(self.embedding_channels)
        self.no_tissue_logit = NO_TISSUE_LOGIT  # TorchScript sees no globals

    def forward(self, image: Tensor) -> Tensor:
        """Return lesion logits (B, 1, H, W), `NO_TISSUE_LOGIT` where no patch was observed."""
        return self.segment(image)[0]

    @torch.jit.export
    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of the slide (B, 2), stream score (B,) and channel scores (B, 320)."""
        lesion, stream_score, channel_scores = self.segment(image)
        return self.slide_logits(lesion), stream_score, channel_scores

    @torch.jit.export
    def slide_logits(self, lesion: Tensor) -> Tensor:
        """Return logits of the slide (B, 2) from lesion logits (B, 1, H, W)."""
        highest = lesion.amax(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(highest), highest], dim=1)

    @torch.jit.export
    def segment(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return lesion logits (B, 1, H, W), stream score (B,) and channel scores (B, 320)."""
        fused, o, _, stream_score, channel_scores, skips = self.fuse(image)
        logits = self.head(fused, o, skips)
        observed = unpack(image, self.embedding_channels)[1]
        return (
            torch.where(observed > 0, logits, torch.full_like(logits, self.no_tissue_logit)),
            stream_score,
            channel_scores,
        )


class LesionDecoder(nn.Module):
    """Back to V's grid in two steps; each doubles the map, joins what entered the encoder's stride there, and convolves 5x5, sparse.

    Args:
        embedding_channels: C, channels of V.
    """

    def __init__(self, embedding_channels: int) -> None:
        super().__init__()
        half, full = DECODER_CHANNELS
        self.join_half = SparseUnit(STREAM_CHANNELS + EMBEDDING_BLOCKS[1][0], half)
        self.convolve_half = SparseUnit(half, half, 5, separable=True)
        self.join_full = SparseUnit(half + embedding_channels, full)
        self.convolve_full = SparseUnit(full, full, 5, separable=True)
        self.lesion = nn.Conv2d(full, 1, 1)

    def forward(self, fused: Tensor, o: Tensor, skips: list[Tensor]) -> Tensor:
        """Return logits (B, 1, H, W) from the joint map, its mask, and (map, mask, extent) at V's grid and at half of it."""
        v, v_o, v_extent, local, local_o, local_extent = skips
        x = torch.cat([double_aligned(fused, o, local_o), local], dim=1)
        x, _, _ = self.join_half(x, local_o, local_extent)
        x, o, _ = self.convolve_half(x, local_o, local_extent)
        x = torch.cat([double_aligned(x, o, v_o), v], dim=1)
        x, _, _ = self.join_full(x, v_o, v_extent)
        x, _, _ = self.convolve_full(x, v_o, v_extent)
        return self.lesion(x)


def double_aligned(x: Tensor, o: Tensor, target_o: Tensor) -> Tensor:
    """Double a map of stride 2: cell i is centred on cell 2i of the target, cells between are linear.

    Only cells with ``o`` one take part; those beyond the last take its value. The map is zero where ``target_o`` is.

    Args:
        x: (B, C, ceil(H/2), ceil(W/2)).
        o: its mask.
        target_o: mask at the target, (B, 1, H, W).

    Returns:
        (B, C, H, W).
    """
    height, width = x.shape[2], x.shape[3]
    both = torch.cat([x * o, o], dim=1)
    both = F.interpolate(both, size=(2 * height - 1, 2 * width - 1), mode="bilinear", align_corners=True)
    both = F.pad(both, (0, 1, 0, 1), mode="replicate")[:, :, : target_o.shape[2], : target_o.shape[3]]
    weight = both[:, -1:]
    return both[:, :-1] / torch.where(weight > 0, weight, torch.ones_like(weight)) * target_o
