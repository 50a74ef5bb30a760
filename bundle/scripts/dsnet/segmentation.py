"""DSNet for segmentation: the same two streams, and a decoder that gives a lesion logit per patch (the extension of section VI)."""

from typing import Any

import torch
from torch import Tensor

from ..common.errors import RequestError
from .decoder import PatchDecoder
from .packing import unpack
from .streams import STREAM_CHANNELS, DualStream

NO_TISSUE_LOGIT = -30.0
"""What stands where nothing was observed: its probability, 1e-13, is nobody's finding."""


class DSNetSegmentation(DualStream):
    """Lesion map on V's grid from the embedding matrix V and the thumbnail matrix T.

    ``forward`` takes ``image`` as :class:`.network.DSNet` does and returns lesion logits (B, 1, H, W). A slide is as suspicious as
    its most suspicious patch: ``attend`` returns [0, highest logit] for it, so that the softmax of the second class is the highest
    lesion probability, and everything that takes DSNet's logits takes these.

    Args:
        num_classes: 2, without and with lesion.
        options: further arguments of :class:`.streams.DualStream`.

    Raises:
        RequestError: another number of classes.
    """

    def __init__(self, num_classes: int = 2, **options: Any) -> None:
        if num_classes != 2:
            raise RequestError(
                f"network_def: {num_classes} classes, expected 2 for a lesion map, without and with lesion: give slides.csv two "
                "labels, or leave segment_train.yaml out"
            )
        super().__init__(num_classes, **options)
        self.keeps_skips = True
        self.head = PatchDecoder(STREAM_CHANNELS, self.local_channels)
        self.no_tissue_logit = NO_TISSUE_LOGIT  # TorchScript sees no globals

    def forward(self, image: Tensor) -> Tensor:
        """Return lesion logits (B, 1, H, W), `NO_TISSUE_LOGIT` where no patch was observed."""
        return self.segment(image)[0]

    @torch.jit.export
    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of the slide (B, 2), stream score (B,) and channel scores (B, 320)."""
        lesion, stream_score, channel_scores = self.segment(image)
        return self.slide_logits(lesion), stream_score, channel_scores

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return logits of the classes of every patch, (B, 2, H, W): [0, lesion logit]."""
        lesion = self.segment(image)[0]
        return torch.cat([torch.zeros_like(lesion), lesion], dim=1)

    @torch.jit.export
    def slide_logits(self, lesion: Tensor) -> Tensor:
        """Return logits of the slide (B, 2) from lesion logits (B, 1, H, W)."""
        highest = lesion.amax(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(highest), highest], dim=1)

    @torch.jit.export
    def segment(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return lesion logits (B, 1, H, W), stream score (B,) and channel scores (B, 320)."""
        fused = self.fuse(image)
        logits = self.head(fused.joint, fused.skips)
        observed = unpack(image, self.embedding_channels)[1]
        return (
            torch.where(observed > 0, logits, torch.full_like(logits, self.no_tissue_logit)),
            fused.stream_score,
            fused.channel_scores,
        )
