"""GLNet, collaborative global-local networks (Chen et al., CVPR 2019), as a classifier: T and V's patches share features."""

from typing import Any

import torch
from torch import Tensor, nn

from ..dsnet.baseline import Baseline
from ..dsnet.pooling import top_mean
from ..dsnet.sparse import SparseMap, SparseUnit, slide_extent, sparse_mean
from ..slides.geometry import T_PIXELS_PER_PATCH

SHARED_LAYERS = 2


class Layer(nn.Module):
    """One layer of both branches: a 3x3 convolution over the slide's box, and a 1x1 convolution over its patches.

    Args:
        channels_t: input channels of the global branch.
        channels_v: input channels of the local branch.
        width: output channels of either.
    """

    def __init__(self, channels_t: int, channels_v: int, width: int) -> None:
        super().__init__()
        self.of_t, self.of_v = SparseUnit(channels_t, width, 3), SparseUnit(channels_v, width)

    def forward(self, t: Tensor, v: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of the global and the local branch, (B, width, H, W) each."""
        extent = slide_extent(o)
        return self.of_t(SparseMap(t * extent, extent, extent)).values, self.of_v(SparseMap(v * o, o, extent)).values


class GlobalLocal(Baseline):
    """A global branch of 3x3 convolutions on T, a local one that sees each patch by itself, and their features shared both ways.

    Both have three layers on V's grid. The second and the third take the maps of both branches, so that a patch knows what lies
    around it, and the picture what its patches hold. The last maps give logits of every patch: of both branches together, which
    are the answer, of the global and of the local one. The slide's logits are the mean of the highest, as in DSNet's head at the
    patch. In training all three learn the slide's class, and the local map is held near to the global one
    (:class:`GlobalLocalLoss`).

    The source segments pictures. It has a ResNet-50 with a feature pyramid in each branch and shares every layer of these. It
    trains the branches one after the other; here they learn together. V stands in the place of raw patches.

    Args:
        num_classes: K, classes of the slide label.
        width: channels of the layers.
        top_share: share of the slide's patches that decide.
        thumbnail_levels: L, levels of T.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    sees_thumbnail = True
    map_source = "patches"

    def __init__(
        self,
        num_classes: int = 2,
        *,
        width: int = 64,
        top_share: float = 0.02,
        thumbnail_levels: int = 3,
        **common: Any,
    ) -> None:
        own = {"width": width, "top_share": top_share}
        super().__init__(num_classes, own, thumbnail_levels=thumbnail_levels, **common)
        self.top_share = top_share
        self.stream_score = 0.5  # neither stream before the other
        self.first = Layer(3 * thumbnail_levels * T_PIXELS_PER_PATCH**2, self.embedding_channels, width)
        self.shared = nn.ModuleList(Layer(2 * width, 2 * width, width) for _ in range(SHARED_LAYERS))
        self.head, self.head_t, self.head_v = (nn.Conv2d(n * width, num_classes, 1) for n in (2, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K); in training (B, 3 K + 1).

        These are the logits of both branches together, of the global and of the local one, and the mean squared difference of
        their last maps over the patches.
        """
        maps, o = self._maps(image)
        logits = top_mean(maps[:, : 3 * self.num_classes], o, self.top_share)
        if not self.training:
            return logits[:, : self.num_classes]
        return torch.cat([logits, sparse_mean(maps[:, 3 * self.num_classes :], o)], dim=1)

    def _maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of every patch in this order, and how far the branches are apart there, (B, 3 K + 1, H, W); and O."""
        v, o = self.patches(image)
        of_t, of_v = self.first(image[:, self.embedding_channels :], v, o)
        for layer in self.shared:
            both = torch.cat([of_t, of_v], dim=1)
            of_t, of_v = layer(both, both, o)
        logits = self.head(torch.cat([of_t, of_v], dim=1))
        apart = (of_v - of_t.detach()).square().mean(dim=1, keepdim=True)
        return torch.cat([logits, self.head_t(of_t), self.head_v(of_v), apart], dim=1), o

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch by both branches, (B, K, H, W); without meaning where none was observed."""
        maps: Tensor = self._maps(image)[0]
        return maps[:, : self.num_classes]


class GlobalLocalLoss(nn.Module):
    """The losses of both branches together, of the global and of the local one, and by ``weight`` how far their maps are apart.

    Args:
        slide_loss: of logits (B, K) and labels (B,).
        num_classes: K.
        weight: of the difference (0.15 in the source).
    """

    def __init__(self, slide_loss: nn.Module, num_classes: int, *, weight: float = 0.15) -> None:
        super().__init__()
        self.slide_loss = slide_loss
        self.num_classes = num_classes
        self.weight = weight

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        """Loss of what :class:`GlobalLocal` returns in training, and class indices (B,)."""
        logits = output[:, : 3 * self.num_classes].chunk(3, dim=1)
        loss: Tensor = self.weight * output[:, -1].mean()
        for of_branch in logits:
            loss = loss + self.slide_loss(of_branch, labels)
        return loss
