"""The fully supervised method of Table II (Wang et al. 2016): patches learn from lesion masks, a forest judges the slide."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.option_words import PatchNetwork
from ..dsnet.baseline import Baseline, by_patch
from ..dsnet.sparse import sparse_max, sparse_mean
from .forest import Forest
from .patch_network import make_patch_network
from .pooled import Slides

LEAST_P = 1e-3
"""Of a class in the forest's answer, whose logarithm is the logit."""


def largest_region(hot: Tensor) -> Tensor:
    """Of maps (B, 1, H, W) of zeros and ones the largest group of ones that touch each other, by side or corner.

    Raises:
        RuntimeError: it is being traced, as for ONNX, which would keep the number of rounds of one slide for all others.
    """
    if torch.jit.is_tracing():
        raise RuntimeError(
            "the groups of a heat map cannot be traced, so there is no ONNX of it: export TorchScript instead"
        )
    height, width = hot.shape[2], hot.shape[3]
    number = torch.arange(1, height * width + 1, device=hot.device, dtype=hot.dtype).view(1, 1, height, width) * hot
    spread = F.max_pool2d(number, 3, 1, 1) * hot
    while not torch.equal(spread, number):  # the highest number of a group goes to all of it
        number = spread
        spread = F.max_pool2d(number, 3, 1, 1) * hot
    flat = number.flatten(1).long()
    sizes = torch.zeros(hot.shape[0], height * width + 1, device=hot.device, dtype=hot.dtype)
    sizes = sizes.scatter_add(1, flat, hot.flatten(1))
    return (flat == sizes.argmax(dim=1, keepdim=True)).to(hot.dtype).view_as(hot) * hot


class HeatMapForest(Baseline):
    """A network gives each patch a probability of lesion; a random forest judges twelve figures about that heat map.

    Its training ``forward`` returns logits of the patches (B, K, H, W), which learn from masks
    (:class:`..training.lesion_losses.PatchLoss`). Two figures are the highest and the mean probability. Each of two thresholds
    gives five more: the share of the tissue over it, and four of the largest region over it. Those are its share of the tissue,
    its longest axis (in patches), its share of its box, and its mean probability. The forest is grown at the end of every epoch
    on the training slides (:meth:`fit`). The source has 28 such figures, and adds patches that are hard negatives. Here every
    patch takes part.

    Args:
        num_classes: K, classes of the slide label; the first is that without lesions.
        patch_network: "perceptron" on V; or "resnet50", "resnet34", "resnet18" where V holds raw patches.
        width: hidden units of the perceptron.
        dropout: share of these that is left out in training.
        low: first threshold.
        high: second threshold.
        trees: of the forest (50 in the paper's comparison).
        depth: of a tree, at most.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(
        self,
        num_classes: int = 2,
        *,
        patch_network: PatchNetwork = "perceptron",
        width: int = 128,
        dropout: float = 0.25,
        low: float = 0.5,
        high: float = 0.9,
        trees: int = 50,
        depth: int = 4,
        **common: Any,
    ) -> None:
        judge = {"patch_network": patch_network, "width": width, "dropout": dropout}
        own = {**judge, "low": low, "high": high, "trees": trees, "depth": depth}
        super().__init__(num_classes, own, **common)
        self.low = low
        self.high = high
        self.least_p = LEAST_P  # TorchScript sees no globals
        self.classifier = make_patch_network(
            patch_network, self.embedding_channels, num_classes, width=width, dropout=dropout
        )
        self.forest = Forest(num_classes, trees=trees, depth=depth)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K); in training those of the patches, (B, K, H, W)."""
        v, o = self.patches(image)
        patches = self.classifier(v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.training:
            return patches
        return torch.log(self.forest(self._figures(patches, o)).clamp(min=self.least_p))

    def _figures(self, patches: Tensor, o: Tensor) -> Tensor:
        """The figures (B, 12) about logits of patches (B, K, H, W)."""
        p = (1 - torch.softmax(patches, dim=1)[:, :1]) * o
        tissue = o.sum(dim=(1, 2, 3)).clamp(min=1.0)
        figures = [sparse_max(p, o)[:, 0], sparse_mean(p, o)[:, 0]]
        for threshold in (self.low, self.high):
            hot = (p > threshold).to(p.dtype) * o
            region = largest_region(hot)
            size = region.sum(dim=(1, 2, 3))
            rows, columns = region.amax(dim=3).sum(dim=(1, 2)), region.amax(dim=2).sum(dim=(1, 2))
            figures += [
                hot.sum(dim=(1, 2, 3)) / tissue,
                size / tissue,
                torch.sqrt(rows * rows + columns * columns),
                size / (rows * columns).clamp(min=1.0),
                (p * region).sum(dim=(1, 2, 3)) / size.clamp(min=1.0),
            ]
        return torch.stack(figures, dim=1)

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch, (B, K, H, W); without meaning where none was observed."""
        v, _ = self.patches(image)
        return by_patch(self.classifier, v)

    @torch.jit.unused
    def fit(self, slides: Slides) -> None:
        """Grow the forest on what the patches of the training slides look like now."""
        mode = self.training
        self.eval()
        figures, labels = [], []
        with torch.no_grad():
            for image, label in slides:
                _, o = self.patches(image)
                figures.append(self._figures(self.patch_logits(image), o)[0])
                labels.append(label)
        self.forest.fit(torch.stack(figures).cpu().numpy(), np.array(labels))
        self.train(mode)
