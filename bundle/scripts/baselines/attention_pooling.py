"""Attention pooling as a network of its own: V's patches, without T and without their places."""

from typing import Any

import torch
from torch import Tensor

from ..dsnet.baseline import Baseline
from ..dsnet.pooling import GatedAttention, attention_mean


class AttentionPooling(Baseline):
    """Gated attention pooling over V's patches (Ilse et al., ICML 2018).

    Args:
        num_classes: classes of the slide label.
        width: features of a patch.
        hidden: size of the gate.
        dropout: share of a patch's features that are left out in training.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(
        self, num_classes: int = 2, *, width: int = 128, hidden: int = 128, dropout: float = 0.0, **common: Any
    ) -> None:
        super().__init__(num_classes, {"width": width, "hidden": hidden, "dropout": dropout}, **common)
        self.attention = GatedAttention(
            self.embedding_channels, num_classes, width=width, hidden=hidden, dropout=dropout
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        v, o = self.patches(image)
        attention, patches = self.attention(v, o)
        return attention_mean(patches, attention)

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch, (B, num_classes, H, W); without meaning where none was observed."""
        v, o = self.patches(image)
        patches: Tensor = self.attention(v, o)[1]
        return patches
