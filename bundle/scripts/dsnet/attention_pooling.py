"""Attention pooling as a network of its own, which DSNet is compared with: the same input, without T and without places."""

import torch
from torch import Tensor, nn

from .packing import unpack
from .pooling import GatedAttention, attention_mean
from .sparse import Standardise


class AttentionPooling(nn.Module):
    """Gated attention pooling over V's patches (Ilse et al., ICML 2018), trained and used as :class:`.network.DSNet` is.

    Args:
        num_classes: classes of the slide label.
        embedding_channels: C, channels of V.
        thumbnail_levels: L, of the input.
        thumbnail_stream: False, as T is not looked at; there for the model card, which says it of every network.
        width: features of a patch.
        hidden: size of the gate.
        dropout: share of a patch's features that are left out in training.

    Raises:
        ValueError: ``thumbnail_stream`` is true.
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        embedding_channels: int = 128,
        thumbnail_levels: int = 3,
        thumbnail_stream: bool = False,
        width: int = 128,
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        if thumbnail_stream:
            raise ValueError("thumbnail_stream True: expected False, attention pooling does not look at T")
        super().__init__()
        self.arguments = {
            "num_classes": num_classes,
            "embedding_channels": embedding_channels,
            "thumbnail_levels": thumbnail_levels,
            "thumbnail_stream": thumbnail_stream,
            "width": width,
            "hidden": hidden,
            "dropout": dropout,
        }
        self.embedding_channels = embedding_channels
        self.standardise = Standardise(embedding_channels)
        self.attention = GatedAttention(embedding_channels, num_classes, width=width, hidden=hidden, dropout=dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        return self.attend(image)[0]

    @torch.jit.export
    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, num_classes), and what stands for both attentions of DSNet: ones, (B,) and (B, C)."""
        v, o, _ = unpack(image, self.embedding_channels)
        attention, patches = self.attention(self.standardise(v, o), o)
        logits = attention_mean(patches, attention)
        return logits, torch.ones_like(logits[:, 0]), torch.ones_like(image[:, : self.embedding_channels, 0, 0])

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch, (B, num_classes, H, W); without meaning where none was observed."""
        v, o, _ = unpack(image, self.embedding_channels)
        patches: Tensor = self.attention(self.standardise(v, o), o)[1]
        return patches

    @torch.jit.unused
    def mask_coverage(self, image: Tensor) -> list[float]:
        """Share of the slides' boxes that was observed; see :meth:`.streams.DualStream.mask_coverage`."""
        _, o, _ = unpack(image, self.embedding_channels)
        return [float(o.mean())]
