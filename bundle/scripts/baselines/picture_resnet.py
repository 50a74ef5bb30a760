"""ResNets on pictures of different size: what a batch is filled up with changes nothing, in training neither."""

from collections.abc import Mapping
from typing import Any

import torch
from monai.networks.nets import ResNet, resnet18, resnet34, resnet50
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import RequestError
from ..dsnet.baseline import Baseline
from ..dsnet.sparse import sparse_mean

_RESNETS = {18: resnet18, 34: resnet34, 50: resnet50}


def resnet_of(depth: int, channels: int, num_classes: int, **options: Any) -> ResNet:
    """MONAI's 2-D ResNet.

    Raises:
        RequestError: there is none of that depth.
    """
    if depth not in _RESNETS:
        raise RequestError(f"network_def#depth {depth}: expected one of {', '.join(map(str, _RESNETS))}")
    network: ResNet = _RESNETS[depth](spatial_dims=2, n_input_channels=channels, num_classes=num_classes, **options)
    return network


class _OnPictures:
    """A part of a ResNet that in training tells the pictures from what their batch is filled up with.

    ``extent`` (B, 1, H, W) of zeros and ones, on the grid behind the first convolution, is where the pictures of the latest batch
    lie; None where they fill it.
    """

    extent: Tensor | None = None

    def _own(self, x: Tensor) -> Tensor:
        """Where the pictures lie on the grid of ``x`` (B, C, h, w), to which further steps of 2 have led: (B, 1, h, w)."""
        own = torch.ones_like(x[:, :1]) if self.extent is None else self.extent
        while own.shape[2:] != x.shape[2:]:
            own = F.max_pool2d(own, 2, ceil_mode=True)
        return own


class PictureNorm(nn.BatchNorm2d, _OnPictures):
    """Batch norm over the pictures, zero beyond them. A single position has no spread: the running statistics serve it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, C, H, W)."""
        if self.training:
            return self._by_batch(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    @torch.jit.unused
    def _by_batch(self, x: Tensor) -> Tensor:
        if self.extent is None and x[:, 0].numel() > 1:
            return super().forward(x)
        rows = x.permute(0, 2, 3, 1)
        flat = rows.flatten(0, 2)
        cells = self._own(x).flatten().nonzero()[:, 0]
        normed = F.batch_norm(
            flat.index_select(0, cells),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=len(cells) > 1,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )
        return torch.zeros_like(flat).index_copy(0, cells, normed).view_as(rows).permute(0, 3, 1, 2)


class PicturePool(nn.MaxPool2d, _OnPictures):
    """Max-pool, zero beyond the pictures."""

    def forward(self, x: Tensor) -> Tensor:
        """Halve ``x`` (B, C, H, W), which is nowhere under zero."""
        pooled = F.max_pool2d(x, self.kernel_size, self.stride, self.padding)
        return self._confined(pooled) if self.training else pooled

    @torch.jit.unused
    def _confined(self, pooled: Tensor) -> Tensor:
        return pooled * self._own(pooled)


class PictureMean(nn.AdaptiveAvgPool2d, _OnPictures):
    """Mean over each picture."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1), of ``x`` (B, C, H, W)."""
        if self.training:
            return self._within(x)
        return F.adaptive_avg_pool2d(x, 1)

    @torch.jit.unused
    def _within(self, x: Tensor) -> Tensor:
        if self.extent is None:
            return super().forward(x)
        return sparse_mean(x, self._own(x))[:, :, None, None]


def _on_pictures(part: nn.Module) -> None:
    """Give a ResNet, in place, norms and pools that know of pictures; the names of its weights stay."""
    for name, child in part.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(part, name, PictureNorm(child.num_features))
        elif isinstance(child, nn.MaxPool2d):
            setattr(part, name, PicturePool(child.kernel_size, child.stride, child.padding))
        elif isinstance(child, nn.AdaptiveAvgPool2d):
            setattr(part, name, PictureMean(child.output_size))
        else:
            _on_pictures(child)


class PictureClassifier(Baseline):
    """A ResNet on one picture per slide, its box: each is judged as if it were alone, and the norms of a training batch see all.

    Args:
        num_classes: classes of the slide label.
        own: arguments of the subclass, for the model card.
        depth: 18, 34 or 50.
        channels: of a picture; None: those of V.
        options: of MONAI's ResNet.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    def __init__(
        self,
        num_classes: int,
        own: Mapping[str, Any],
        *,
        depth: int,
        channels: int | None = None,
        options: Mapping[str, Any],
        **common: Any,
    ) -> None:
        super().__init__(num_classes, {"depth": depth, **own}, **common)
        self.resnet = resnet_of(depth, channels or self.embedding_channels, num_classes, **options)
        _on_pictures(self.resnet)

    def judge(self, pictures: Tensor, extent: Tensor) -> Tensor:
        """Return logits (B, K) of pictures (B, channels, H, W), which lie where ``extent`` (B, 1, H, W) is one."""
        if self.training:
            return self._learn(pictures, extent)
        if torch.jit.is_tracing():  # as for ONNX, where each slide goes by itself: its box would be kept for all others
            return self.resnet(pictures)
        logits = []
        for index in range(pictures.shape[0]):
            rows, columns = extent[index, 0].amax(dim=1), extent[index, 0].amax(dim=0)
            top, left = int(rows.argmax()), int(columns.argmax())
            bottom, right = top + int(rows.sum()), left + int(columns.sum())
            logits.append(self.resnet(pictures[index : index + 1, :, top:bottom, left:right]))
        return torch.cat(logits)

    @torch.jit.unused
    def _learn(self, pictures: Tensor, extent: Tensor) -> Tensor:
        step = self.resnet.conv1.stride
        behind = None if bool(extent.all()) else F.max_pool2d(extent, step, step, ceil_mode=True)
        for part in self.resnet.modules():
            if isinstance(part, _OnPictures):
                part.extent = behind
        logits: Tensor = self.resnet(pictures * extent)
        return logits
