"""Zhao et al. (CVPR 2020): feature selection, and graph convolutions with self-attention pooling, on V's patches."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..dsnet.baseline import Baseline, Fitted
from ..dsnet.sparse import LEAKY_SLOPE, sparse_max, sparse_mean
from .pooled import Slides

SPAN = 3.0
"""Deviations of a standardised channel that its histogram covers on either side."""


class GraphConvolution(nn.Module):
    """Kipf and Welling 2017 on the graph of the observed patches: each is joined to itself and to its up to eight neighbours."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, o: Tensor) -> Tensor:
        """From maps (B, inputs, H, W) and O; zero where no patch is."""
        degree = 9 * F.avg_pool2d(o, 3, 1, 1)
        scale = o / torch.sqrt(degree.clamp(min=1.0))
        return self.linear(9 * F.avg_pool2d(x * scale, 3, 1, 1) * scale) * o


class GraphPooling(Baseline):
    """Three graph convolutions, each followed by self-attention pooling (Lee et al. 2019) and read out by mean and maximum.

    Half of V's channels take part: those whose histograms over a slide's patches differ most between the classes (:meth:`fit`).
    Source: features of a VAE-GAN that was trained with labels of patches, and a graph that it leaves open; here V, and V's grid.

    Args:
        num_classes: classes of the slide label.
        width: features of a patch.
        ratio: share of the patches that each pooling keeps.
        bins: of a histogram (50 in the source).
        keep: share of the channels (half in the source).
        dropout: before the decision.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "attention"

    def __init__(
        self,
        num_classes: int = 2,
        *,
        width: int = 128,
        ratio: float = 0.5,
        bins: int = 50,
        keep: float = 0.5,
        dropout: float = 0.5,
        **common: Any,
    ) -> None:
        own = {"width": width, "ratio": ratio, "bins": bins, "keep": keep, "dropout": dropout}
        super().__init__(num_classes, own, **common)
        self.ratio = ratio
        self.bins = bins
        self.keep = keep
        self.selection = Fitted(self.embedding_channels)
        self.selection.values.fill_(1.0)
        self.convolutions = nn.ModuleList(
            GraphConvolution(inputs, width) for inputs in (self.embedding_channels, width, width)
        )
        self.scores = nn.ModuleList(GraphConvolution(width, 1) for _ in range(3))
        self.classifier = nn.Sequential(
            nn.Linear(2 * width, width), nn.LeakyReLU(LEAKY_SLOPE), nn.Dropout(dropout), nn.Linear(width, num_classes)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        return self._decide(image)[0]

    def _decide(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and how many poolings each patch outlived, (B, 1, H, W)."""
        x, o = self.patches(image)
        x = x * self.selection.values.view(1, -1, 1, 1)
        outlived = torch.zeros_like(o)
        read = torch.zeros(1, device=x.device, dtype=x.dtype)
        for convolution, scoring in zip(self.convolutions, self.scores):  # noqa: B905, TorchScript knows no strict
            x = torch.relu(convolution(x, o))
            score = scoring(x, o)
            o = self._highest(score, o)
            x = x * torch.tanh(score) * o
            outlived = outlived + o
            read = read + torch.cat([sparse_mean(x, o), sparse_max(x, o)], dim=1)
        return self.classifier(read), outlived

    def _highest(self, score: Tensor, o: Tensor) -> Tensor:
        """O of the patches that a pooling keeps: the share of highest score, at least one."""
        falling = torch.where(o > 0, score, float("-inf")).flatten(1).argsort(dim=1, descending=True)
        rank = falling.argsort(dim=1).view_as(o)
        kept = torch.ceil(self.ratio * o.sum(dim=(1, 2, 3), keepdim=True))
        return (rank < kept).to(o.dtype) * o

    @torch.jit.unused
    def attention_map(self, image: Tensor) -> Tensor:
        """Return how many of the three poolings each patch outlived, (B, 1, H, W)."""
        return self._decide(image)[1]

    @torch.jit.unused
    def fit(self, slides: Slides) -> None:
        """Select channels by the maximum mean discrepancy, with a linear kernel, between the slides' histograms of two classes.

        Where there are more than two classes, a channel counts by the two that it tells apart best.
        """
        sums = torch.zeros(self.num_classes, self.embedding_channels, self.bins)
        counts = torch.zeros(self.num_classes, 1, 1)
        for image, label in slides:
            v, o = (part.cpu() for part in self.patches(image))
            x = v[0][:, o[0, 0] > 0].clamp(-SPAN, SPAN)
            places = ((x + SPAN) / (2 * SPAN) * self.bins).long().clamp(max=self.bins - 1)
            sums[label] += torch.zeros(len(x), self.bins).scatter_add_(1, places, torch.ones_like(x)) / x.shape[1]
            counts[label] += 1
        means = sums / counts.clamp(min=1)
        discrepancy = (means[:, None] - means[None]).square().sum(dim=3).flatten(0, 1).amax(dim=0)
        chosen = discrepancy.topk(max(1, round(self.keep * self.embedding_channels))).indices
        self.selection.values.zero_()
        self.selection.values[chosen.to(self.selection.values.device)] = 1.0
