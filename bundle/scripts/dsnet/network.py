"""DSNet, the dual-stream network of the paper (III-C, Fig. 3, Table I)."""

from typing import Any

import torch
from torch import Tensor, nn

from .sparse import LEAKY_SLOPE, SparseUnit, sparse_max, sparse_mean
from .streams import STREAM_CHANNELS, DualStream

HEAD_CHANNELS = 640
HIDDEN_FEATURES = 128


class DSNet(DualStream):
    """Slide label from the embedding matrix V and the thumbnail matrix T.

    ``forward`` takes one tensor, ``image`` (B, embedding_channels + 12 thumbnail_levels, H, W), see
    :mod:`.packing`, and returns logits (B, num_classes).

    Args:
        num_classes: classes of the slide label.
        options: further arguments of :class:`.streams.DualStream`.
    """

    def __init__(self, num_classes: int = 2, **options: Any) -> None:
        super().__init__(num_classes, **options)
        self.head = SparseUnit(STREAM_CHANNELS, HEAD_CHANNELS)
        self.classifier = nn.Sequential(
            nn.Linear(2 * HEAD_CHANNELS, HIDDEN_FEATURES),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Linear(HIDDEN_FEATURES, num_classes),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        return self.attend(image)[0]

    @torch.jit.export
    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, num_classes), stream score (B,) and channel scores (B, 320), the outputs of Fig. 8 and 9."""
        fused, o, extent, stream_score, channel_scores, _ = self.fuse(image)
        features, _, _ = self.head(fused, o, extent)
        pooled = torch.cat([sparse_mean(features, o), sparse_max(features, o)], dim=1)
        return self.classifier(pooled), stream_score, channel_scores
