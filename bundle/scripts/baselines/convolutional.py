"""The image-wise methods of the paper's Table II: a standard network on the thumbnail, or on V as an image of C channels."""

from typing import Any

import torch
from torch import Tensor, nn

from ..dsnet.baseline import Baseline
from ..dsnet.packing import unpack
from ..dsnet.sparse import LEAKY_SLOPE, SparseMap, SparseUnit, slide_extent, sparse_mean
from ..slides.geometry import T_PIXELS_PER_PATCH
from .picture_resnet import PictureClassifier

TELLEZ_STRIDES = (2, 2, 2, 2, 2, 2, 1, 1)


class NaiveThumbnail(PictureClassifier):
    """ResNet on the finest level of T, the paper's naive approach; its stem steps by 2 (He et al. 2016), where MONAI's steps by 1.

    Args:
        num_classes: classes of the slide label.
        depth: 18, 34 or 50.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    sees_thumbnail = True

    def __init__(self, num_classes: int = 2, *, depth: int = 50, **common: Any) -> None:
        super().__init__(num_classes, {}, depth=depth, channels=3, options={"conv1_t_stride": 2}, **common)
        self.pixels = T_PIXELS_PER_PATCH  # TorchScript sees no globals

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        _, o, thumbnail = unpack(image, self.embedding_channels)
        extent = slide_extent(o)
        extent = torch.repeat_interleave(torch.repeat_interleave(extent, self.pixels, dim=2), self.pixels, dim=3)
        return self.judge(thumbnail[:, :3], extent)


class EmbeddingResNet(PictureClassifier):
    """ResNet on V as an image of C channels: neural image compression as the paper compares it (Table II, "Tellez et al.").

    A cell of V is a patch, so a stem of stride 2 and its pooling would leave one cell of sixteen. Both are left out, unless
    ``stem_stride`` and ``max_pool`` ask for them.

    Args:
        num_classes: classes of the slide label.
        depth: 18, 34 or 50.
        stem_stride: step of the first convolution.
        max_pool: whether it is pooled.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    def __init__(
        self, num_classes: int = 2, *, depth: int = 50, stem_stride: int = 1, max_pool: bool = False, **common: Any
    ) -> None:
        own = {"stem_stride": stem_stride, "max_pool": max_pool}
        options = {"conv1_t_stride": stem_stride, "no_max_pool": not max_pool}
        super().__init__(num_classes, own, depth=depth, options=options, **common)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        v, o = self.patches(image)
        return self.judge(v, slide_extent(o))


class TellezClassifier(Baseline):
    """The classifier of neural image compression (Tellez et al., IEEE TPAMI 43(2), 2021) on V.

    Eight depth-wise separable 3x3 convolutions of 128 channels, of stride 2 but the last two, each with norm, leaky ReLU and a
    dropout of whole channels; 128 units, and the classes. Every position of the slide's box counts as observed, as there; beyond
    it nothing does, so that padding a batch changes nothing. Where the source has a grid of one size, the last map is averaged.

    Args:
        num_classes: classes of the slide label.
        width: channels of the convolutions, and units.
        dropout: share of the channels that are left out after each in training.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    def __init__(self, num_classes: int = 2, *, width: int = 128, dropout: float = 0.2, **common: Any) -> None:
        super().__init__(num_classes, {"width": width, "dropout": dropout}, **common)
        inputs = [self.embedding_channels, *[width] * (len(TELLEZ_STRIDES) - 1)]
        self.blocks = nn.ModuleList(
            SparseUnit(channels, width, 3, stride=stride, separable=True)
            for channels, stride in zip(inputs, TELLEZ_STRIDES, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Sequential(
            nn.Linear(width, width), nn.LeakyReLU(LEAKY_SLOPE), nn.Linear(width, num_classes)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        v, o = self.patches(image)
        extent = slide_extent(o)
        x = SparseMap(v, extent, extent)
        for block in self.blocks:
            y = block(x)
            x = SparseMap(self.dropout(y.values), y.observed, y.extent)
        return self.classifier(sparse_mean(x.values, x.observed))
