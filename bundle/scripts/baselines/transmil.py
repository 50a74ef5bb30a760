"""TransMIL (Shao et al., NeurIPS 2021): a transformer over V's patches as a sequence."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import RequestError
from ..dsnet.baseline import Baseline
from .nystrom import NystromAttention


class PositionEncoding(nn.Module):
    """Depth-wise convolutions of 7x7, 5x5 and 3x3 over the tokens, laid out as a square row by row (PPEG in the source)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.large = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.middle = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.small = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, side: int) -> Tensor:
        """Add to tokens (1 + side^2, width), of which the first is the slide's and stays."""
        square = x[1:].t().reshape(1, -1, side, side)
        square = square + self.large(square) + self.middle(square) + self.small(square)
        return torch.cat([x[:1], square.flatten(2)[0].t()])


class TransMil(Baseline):
    """Two layers of self-attention over a slide's observed patches and a token of the slide's own, which decides.

    The source has no mask, so each slide of a batch goes its own way, without the patches that were not observed. As there, the
    sequence is filled up to a square with its own first patches. Its 512 features of 1,024 channels and 256 landmarks are ``width``
    and half of it.

    Args:
        num_classes: classes of the slide label.
        width: features of a patch; a multiple of ``heads``.
        heads: of the attention.
        dropout: share of the attention's output that is left out in training.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "attention"

    def __init__(
        self, num_classes: int = 2, *, width: int = 128, heads: int = 8, dropout: float = 0.1, **common: Any
    ) -> None:
        super().__init__(num_classes, {"width": width, "heads": heads, "dropout": dropout}, **common)
        if width % heads:
            raise RequestError(f"network_def#width {width}: expected a multiple of {heads}, the number of heads")
        self.features = nn.Sequential(nn.Linear(self.embedding_channels, width), nn.ReLU())
        self.token = nn.Parameter(torch.randn(1, width))
        self.first = NystromAttention(width, heads=heads, landmarks=width // 2, dropout=dropout)
        self.second = NystromAttention(width, heads=heads, landmarks=width // 2, dropout=dropout)
        self.before_first, self.before_second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.position = PositionEncoding(width)
        self.classifier = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        v, o = self.patches(image)
        logits = []
        for index in range(v.shape[0]):
            logits.append(self._decide(v[index], o[index, 0])[0])
        return torch.cat(logits)

    def _decide(self, v: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (1, num_classes) of a slide from V (C, H, W) and O (H, W), and the attention (N,) paid to its observed patches."""
        patches = self.features(v[:, o > 0].t())
        n = patches.shape[0]
        side = math.ceil(math.sqrt(n))
        x = torch.cat([self.token, patches, patches[: side * side - n]])
        x = x + self.first(self.before_first(x))[0]
        x = self.position(x, side)
        mixed, attention = self.second(self.before_second(x))
        return self.classifier((x + mixed)[:1]), attention[1 : n + 1]

    @torch.jit.unused
    def attention_map(self, image: Tensor) -> Tensor:
        """Return the attention that the slide's token pays to each patch, (B, 1, H, W), zero where none was observed.

        It is that of the second layer, where the Nystrom form may fall below zero, zero.
        """
        v, o = self.patches(image)
        found = torch.zeros_like(o)
        for index in range(v.shape[0]):
            found[index, 0][o[index, 0] > 0] = self._decide(v[index], o[index, 0])[1].clamp(min=0)
        return found
