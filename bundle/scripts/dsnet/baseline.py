"""What the networks have in common that DSNet is compared with: the same input, and answers to the same questions."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..common.errors import RequestError
from .packing import unpack
from .sparse import Standardise, slide_extent

BaselineMap = Literal["none", "patches", "attention"]


def by_patch(layer: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """Return what ``layer``, which takes vectors (..., C), makes of every patch of V (B, C, H, W): (B, K, H, W)."""
    return layer(v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Fitted(nn.Module):
    """Numbers that are read from the training slides once, before the first step; they travel with the weights.

    Args:
        shape: of ``values``, which are zeros until they are set.
    """

    values: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(shape))


class Baseline(nn.Module):
    """A network that is trained, evaluated, applied and packed as :class:`.network.DSNet` is, for comparison.

    A subclass makes its layers and has a ``forward`` that takes ``image`` (B, C + 12L, H, W), see :mod:`.packing`, and returns
    logits (B, num_classes). In training it may return more, where the loss of its overlay takes more. Where it has a heat map,
    ``map_source`` says which. "patches": logits of every patch, by a method ``patch_logits`` that returns (B, num_classes, H, W).
    "attention": by a method ``attention_map`` that returns (B, 1, H, W) of zero or more.

    Args:
        num_classes: classes of the slide label.
        own: arguments of the subclass, for the model card.
        embedding_channels: C, channels of V.
        thumbnail_levels: L, of the input.
        thumbnail_stream: whether T is looked at, which the subclass decides: the model card says it of every network.

    Raises:
        RequestError: ``thumbnail_stream`` is not what the subclass does.
    """

    map_source: BaselineMap = "none"
    sees_thumbnail = False

    def __init__(
        self,
        num_classes: int,
        own: Mapping[str, Any],
        *,
        embedding_channels: int = 128,
        thumbnail_levels: int = 3,
        thumbnail_stream: bool | None = None,
    ) -> None:
        if thumbnail_stream is not None and bool(thumbnail_stream) != self.sees_thumbnail:
            remedy = "encode the slides with encode.yaml, which keeps T" if self.sees_thumbnail else "leave it out"
            raise RequestError(
                f"thumbnail_stream {thumbnail_stream}: expected {self.sees_thumbnail}, as {type(self).__name__} looks at "
                f"{'T' if self.sees_thumbnail else 'V alone'}: {remedy}"
            )
        super().__init__()
        self.arguments: dict[str, object] = {
            "num_classes": num_classes,
            "embedding_channels": embedding_channels,
            "thumbnail_levels": thumbnail_levels,
            "thumbnail_stream": self.sees_thumbnail,
            **own,
        }
        self.num_classes = num_classes
        self.embedding_channels = embedding_channels
        self.stream_score = 0.0 if self.sees_thumbnail else 1.0
        self.standardise = Standardise(embedding_channels)

    def patches(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """V, standardised (B, C, H, W), and its observation mask O (B, 1, H, W)."""
        v, o, _ = unpack(image, self.embedding_channels)
        return self.standardise(v, o), o

    @torch.jit.export
    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, num_classes), and what stands for DSNet's attentions: a stream score (B,), and ones (B, C).

        The stream score is 1 where the network looks at V alone, and 0 where at T. A network that puts neither first says 0.5.
        """
        logits = self.forward(image)
        stream_score = torch.full_like(logits[:, 0], self.stream_score)
        return logits, stream_score, torch.ones_like(image[:, : self.embedding_channels, 0, 0])

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Logits of every patch, of a network whose ``map_source`` is "patches"."""
        raise NotImplementedError

    @torch.jit.unused
    def attention_map(self, image: Tensor) -> Tensor:
        """Attention paid to every patch, of a network whose ``map_source`` is "attention"."""
        raise NotImplementedError

    @torch.jit.unused
    def mask_coverage(self, image: Tensor) -> list[float]:
        """Share of the slides' boxes that was observed; see :meth:`.streams.DualStream.mask_coverage`."""
        _, o, _ = unpack(image, self.embedding_channels)
        return [float(o.sum() / slide_extent(o).sum())]
