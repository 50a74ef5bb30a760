"""Dual-stream multiple instance learning, DSMIL (Li et al., CVPR 2021), on V's patches; no kin of DSNet's two streams."""

from typing import Any

import torch
from torch import Tensor, nn

from ..dsnet.baseline import Baseline
from ..dsnet.pooling import UNSEEN


class Dsmil(Baseline):
    """The highest logit of a patch, and a second decision on the mean of the patches by their likeness to that one.

    As in the authors' code: queries by two layers, the features themselves as values. Of two classes the first is that without
    lesions, so that there is one logit, for the second. Patches that were not observed take no part.

    Args:
        num_classes: classes of the slide label.
        hidden: size of the queries (128 in the source).
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(self, num_classes: int = 2, *, hidden: int = 128, **common: Any) -> None:
        super().__init__(num_classes, {"hidden": hidden}, **common)
        channels, outputs = self.embedding_channels, 1 if num_classes == 2 else num_classes
        self.query = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.Tanh())
        self.instance = nn.Linear(channels, outputs)
        self.bag = nn.Linear(outputs * channels, outputs)
        self.scale = hidden**-0.5
        self.unseen = UNSEEN  # TorchScript sees no globals

    def forward(self, image: Tensor) -> Tensor:
        """Return the mean of both logits (B, K); in training both, (B, 2 K)."""
        v, o = self.patches(image)
        x, seen = v.flatten(2).transpose(1, 2), o.flatten(2).transpose(1, 2) > 0
        highest, critical = torch.where(seen, self.instance(x), self.unseen).max(dim=1)  # (B, outputs)
        queries = self.query(x)
        of_critical = queries.gather(1, critical.unsqueeze(2).expand(-1, -1, queries.shape[2]))
        likeness = queries @ of_critical.transpose(1, 2) * self.scale  # (B, patches, outputs)
        attention = torch.softmax(torch.where(seen, likeness, self.unseen), dim=1)
        bag = self.bag((attention.transpose(1, 2) @ x).flatten(1))
        if self.training:
            return torch.cat([self._of_classes(bag), self._of_classes(highest)], dim=1)
        return self._of_classes((bag + highest) / 2)

    def _of_classes(self, logits: Tensor) -> Tensor:
        """One logit per class: of two the first has 0."""
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if self.num_classes == 2 else logits

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch, (B, num_classes, H, W); without meaning where none was observed."""
        v, _ = self.patches(image)
        logits = self.instance(v.flatten(2).transpose(1, 2)).transpose(1, 2)
        return self._of_classes(logits.unflatten(2, (v.shape[2], v.shape[3])))


class BothLosses(nn.Module):
    """The mean of the losses of both decisions.

    Args:
        slide_loss: of logits (B, K) and labels (B,).
    """

    def __init__(self, slide_loss: nn.Module) -> None:
        super().__init__()
        self.slide_loss = slide_loss

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        """Loss of what :class:`Dsmil` returns in training, (B, 2 K), and class indices (B,)."""
        bag, highest = output.chunk(2, dim=1)
        loss: Tensor = (self.slide_loss(bag, labels) + self.slide_loss(highest, labels)) / 2
        return loss
