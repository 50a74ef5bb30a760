"""Classifiers of one vector per slide: the mean of its patches, or its colours. What a method is worth, it is worth above these."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..dsnet.baseline import Baseline, Fitted, by_patch
from ..dsnet.packing import unpack
from ..dsnet.sparse import sparse_mean
from ..slides.geometry import T_PIXELS_PER_PATCH

Slides = Iterable[tuple[Tensor, int]]
"""``image`` (1, C + 12L, H, W) and class index of training slides, without augmentation."""


class MeanPooling(Baseline):
    """Logistic regression on the mean of the slide's patches.

    Args:
        num_classes: classes of the slide label.
        common: arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(self, num_classes: int = 2, **common: Any) -> None:
        super().__init__(num_classes, {}, **common)
        self.classifier = nn.Linear(self.embedding_channels, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        v, o = self.patches(image)
        return self.classifier(sparse_mean(v, o))

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return what every patch would say alone, (B, num_classes, H, W): their mean is what the slide says."""
        v, _ = self.patches(image)
        return by_patch(self.classifier, v)


class NearestMean(Baseline):
    """Nearest class mean: how near the mean of the slide's patches lies to that of the training slides of each class.

    The logits are the negative mean squared differences of the channels, times a factor, the one number that is trained.

    Args:
        num_classes: classes of the slide label.
        common: arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(self, num_classes: int = 2, **common: Any) -> None:
        super().__init__(num_classes, {}, **common)
        self.means = Fitted(num_classes, self.embedding_channels)
        self.log_factor = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        v, o = self.patches(image)
        return self._nearness(sparse_mean(v, o))

    def _nearness(self, x: Tensor) -> Tensor:
        """Logits (..., num_classes) of vectors (..., C)."""
        return -torch.exp(self.log_factor) * (x.unsqueeze(-2) - self.means.values).square().mean(dim=-1)

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return what every patch would say alone, (B, num_classes, H, W)."""
        v, _ = self.patches(image)
        return by_patch(self._nearness, v)

    @torch.jit.unused
    def fit(self, slides: Slides) -> None:
        """Take the class means from the training slides, each of which counts as much."""
        sums, counts = torch.zeros_like(self.means.values), torch.zeros_like(self.means.values[:, :1])
        for image, label in slides:
            v, o = self.patches(image)
            sums[label] += sparse_mean(v, o)[0]
            counts[label] += 1
        self.means.values.copy_(sums / counts.clamp(min=1))


class ColourStatistics(Baseline):
    """Logistic regression on mean and deviation of red, green and blue over the tissue of the finest thumbnail: six numbers.

    A check of the data set, not a rival: where it tells the classes apart, so may the scanner, the stain or the laboratory.

    Args:
        num_classes: classes of the slide label.
        common: arguments of :class:`..dsnet.baseline.Baseline`.
    """

    sees_thumbnail = True

    def __init__(self, num_classes: int = 2, **common: Any) -> None:
        super().__init__(num_classes, {}, **common)
        self.mean, self.deviation = Fitted(6), Fitted(6)
        self.deviation.values.fill_(1.0)
        self.classifier = nn.Linear(6, num_classes)
        self.pixels = T_PIXELS_PER_PATCH  # TorchScript sees no globals

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        return self.classifier((self._statistics(image) - self.mean.values) / self.deviation.values)

    def _statistics(self, image: Tensor) -> Tensor:
        """Mean and deviation of every colour, (B, 6)."""
        _, o, thumbnail = unpack(image, self.embedding_channels)
        tissue = torch.repeat_interleave(torch.repeat_interleave(o, self.pixels, dim=2), self.pixels, dim=3)
        colours = thumbnail[:, :3]
        mean = sparse_mean(colours, tissue)
        square = sparse_mean((colours - mean.unsqueeze(2).unsqueeze(3)).square(), tissue)
        return torch.cat([mean, torch.sqrt(square + 1e-12)], dim=1)

    @torch.jit.unused
    def fit(self, slides: Slides) -> None:
        """Take mean and deviation of the six numbers from the training slides."""
        found = torch.cat([self._statistics(image) for image, _ in slides])
        deviation, mean = torch.std_mean(found, dim=0, correction=0)
        self.mean.values.copy_(mean)
        self.deviation.values.copy_(torch.where(deviation > 1e-6, deviation, 1.0))
