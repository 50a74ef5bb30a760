"""CLAM with one attention branch (Lu et al., Nature Biomedical Engineering 2021): attention pooling, and a loss on patches."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..dsnet.baseline import Baseline
from ..dsnet.pooling import GatedAttention, attention_mean


class ClamSB(Baseline):
    """CLAM-SB. Per class two further logits of every patch say whether it shows the class or not.

    The patches of highest and of lowest attention train them (:class:`InstanceLoss`). Slides with fewer patches than are taken give
    some twice. Where the source has ReLU, there is the leaky ReLU of :class:`..dsnet.pooling.GatedAttention`.

    Args:
        num_classes: classes of the slide label.
        width: features of a patch (512 in the source's small network).
        hidden: size of the gate (256 there).
        dropout: share of a patch's features that are left out in training.
        samples: patches taken from either end of the attention (8 there).
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(
        self,
        num_classes: int = 2,
        *,
        width: int = 512,
        hidden: int = 256,
        dropout: float = 0.25,
        samples: int = 8,
        **common: Any,
    ) -> None:
        own = {"width": width, "hidden": hidden, "dropout": dropout, "samples": samples}
        super().__init__(num_classes, own, **common)
        self.samples = samples
        self.attention = GatedAttention(
            self.embedding_channels, 3 * num_classes, width=width, hidden=hidden, dropout=dropout
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K); in training (B, K + 4 K samples), behind them those of the patches taken, the highest first."""
        v, o = self.patches(image)
        attention, maps = self.attention(v, o)
        logits = attention_mean(maps[:, : self.num_classes], attention)
        if not self.training:
            return logits
        falling = torch.where(o > 0, attention, -1.0).flatten(1).argsort(dim=1, descending=True)
        last = (o.flatten(1).sum(dim=1, keepdim=True).long() - 1).clamp(min=0)
        rank = torch.arange(self.samples, device=image.device).unsqueeze(0)
        taken = torch.cat([torch.minimum(rank, last), (last - rank).clamp(min=0)], dim=1)
        places = falling.gather(1, taken).unsqueeze(1).expand(-1, 2 * self.num_classes, -1)
        return torch.cat([logits, maps[:, self.num_classes :].flatten(2).gather(2, places).flatten(1)], dim=1)

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return what every patch gives to the slide's logits, (B, num_classes, H, W)."""
        v, o = self.patches(image)
        maps: Tensor = self.attention(v, o)[1]
        return maps[:, : self.num_classes]


class InstanceLoss(nn.Module):
    """The loss of the slide and, by ``weight``, that of its patches.

    By the classifier of the slide's class the patches of highest attention show it and those of lowest do not. Of more than two
    classes, which exclude each other, by the other classifiers the highest do not, and all are averaged. The loss of a patch is the
    cross-entropy; the source has a smooth support vector machine, or this (docs/decisions/0019).

    Args:
        slide_loss: of logits (B, K) and labels (B,).
        num_classes: K.
        weight: 0.3 in the source.
    """

    def __init__(self, slide_loss: nn.Module, num_classes: int, *, weight: float = 0.3) -> None:
        super().__init__()
        self.slide_loss = slide_loss
        self.num_classes = num_classes
        self.weight = weight

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        """Loss of what :class:`ClamSB` returns in training, and class indices (B,)."""
        logits = output[:, : self.num_classes]
        patches = output[:, self.num_classes :].unflatten(1, (self.num_classes, 2, -1))  # (B, K, 2, 2 samples)
        samples = patches.shape[3] // 2
        own = patches[torch.arange(len(labels), device=labels.device), labels]
        shows = (torch.arange(2 * samples, device=labels.device) < samples).long().expand(len(labels), -1)
        of_patches = F.cross_entropy(own, shows)
        if self.num_classes > 2:
            highest = patches[..., :samples].transpose(1, 2)
            not_shown = torch.zeros_like(highest[:, 0], dtype=torch.long)
            each = F.cross_entropy(highest, not_shown, reduction="none").mean(dim=2)  # (B, K)
            others = (each * (1 - F.one_hot(labels, self.num_classes))).sum(dim=1).mean()
            of_patches = (of_patches + others) / self.num_classes
        loss: Tensor = (1 - self.weight) * self.slide_loss(logits, labels) + self.weight * of_patches
        return loss
