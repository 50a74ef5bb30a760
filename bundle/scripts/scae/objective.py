"""What the S-CAE is trained for: the paper's objective, or that with a self-supervised term on v."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from monai.engines import default_prepare_batch
from monai.inferers import Inferer, SimpleInferer
from monai.losses import ContrastiveLoss
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.option_table import checked
from ..common.option_words import Objective
from .scae_network import SCAE, Decomposition
from .views import optical_density

DARKER = 0.5
"""How much darker (in standard deviations) active locations must be than their patch.

Nuclei exceed it, and then this term is zero.
"""


class Recipe(NamedTuple):
    """The parts of a SupervisedTrainer that an objective decides."""

    prepare_batch: Callable[..., Any]
    inferer: Inferer
    loss: nn.Module  # its parameters are trained with the network's, and are not part of it


def make_recipe(
    objective: Objective,
    *,
    channels: int,
    views: Callable[[Tensor], Tensor],
    decoded: int = 8,
    weight: float = 0.1,
    temperature: float = 0.1,
    dark_weight: float = 0.1,
) -> Recipe:
    """Choose what the S-CAE is trained for.

    Args:
        objective: "paper": reconstruct the patch through crosswise sparse maps. "extended": the same, tell by v which two views
            are of one patch, and keep the active locations on what is dark. Both are blind to labels.
        channels: C, the length of v.
        views: makes two views of every patch, see :class:`.views.StainViews`; extended only.
        decoded: views of a batch that are reconstructed; extended only.
        weight: of the contrastive term beside the mean squared error; extended only.
        temperature: of the contrastive term; extended only.
        dark_weight: of the term that keeps active locations on what is dark; extended only.

    Raises:
        RequestError: an unknown objective.
    """
    if checked("objective", objective) == "paper":
        return Recipe(default_prepare_batch, SimpleInferer(), nn.MSELoss())
    return Recipe(
        PrepareViews(views),
        PartsInferer(decoded),
        ExtendedLoss(channels, weight=weight, temperature=temperature, dark_weight=dark_weight),
    )


class PrepareViews:
    """Turn a batch of patches into views, each its own target (a ``prepare_batch`` of MONAI's engines)."""

    def __init__(self, views: Callable[[Tensor], Tensor]) -> None:
        self.views = views

    def __call__(self, batch: dict[str, Tensor], device: Any = None, non_blocking: bool = False, **_: Any) -> Any:
        """Return views (2B, 3, side, side) twice: as input and as target."""
        views = self.views(batch["image"].to(device=device, non_blocking=non_blocking))
        views = views.contiguous(memory_format=torch.channels_last)
        return views, views


class PartsInferer(Inferer):
    """Give the loss all parts of an S-CAE's output, v among them, and decode only the first ``decoded`` patches of a batch."""

    def __init__(self, decoded: int) -> None:
        super().__init__()
        self.decoded = decoded

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Decompose a batch."""
        assert isinstance(network, SCAE)
        return network.decompose(inputs, decoded=self.decoded)


class ExtendedLoss(nn.Module):
    """Mean squared error of the reconstruction, NT-Xent (Chen et al. 2020, SimCLR) between projections of v, and a prior.

    The projector serves the loss alone: v itself is what encoding gives, and the S-CAE keeps its size. The prior says what sparsity
    leaves open: nuclei are dark, and gaps in tissue are as sparse as nuclei are.

    Args:
        channels: C, the length of v.
        weight: of the contrastive term.
        temperature: of the contrastive term.
        dark_weight: of the prior.
        projected: length of a projection.
    """

    def __init__(
        self, channels: int, *, weight: float, temperature: float, dark_weight: float, projected: int = 64
    ) -> None:
        super().__init__()
        self.weight = weight
        self.dark_weight = dark_weight
        self.project = nn.Sequential(
            nn.BatchNorm1d(channels),  # the channels of v vary by hundredths around means of their own
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, projected),
        )
        self.contrast = ContrastiveLoss(temperature=temperature)

    def forward(self, parts: Decomposition, views: Tensor) -> Tensor:
        """Return the loss of the parts of views (2B, 3, side, side), of which i and B + i are of one patch."""
        first, second = self.project(parts.vector).float().chunk(2)
        loss = F.mse_loss(parts.reconstruction, views[: len(parts.reconstruction)])
        loss = loss + self.weight * self.contrast(first, second)
        if parts.mask is not None:
            loss = loss + self.dark_weight * F.relu(DARKER - darkness(parts.mask, views)).mean()
        return loss


def darkness(mask: Tensor, patches: Tensor) -> Tensor:
    """How much darker active locations are than their patch.

    Args:
        mask: soft or hard, (B, 1, h, w).
        patches: (B, 3, H, W) in [0, 1].

    Returns:
        Optical density under the mask less that of the whole patch, in standard deviations within the patch, (B,); 0 without an
        active location.
    """
    density = optical_density(patches).mean(dim=1, keepdim=True)
    density = F.adaptive_avg_pool2d(density, (mask.shape[2], mask.shape[3]))
    deviation, mean = torch.std_mean(density, dim=(1, 2, 3), keepdim=True)
    excess = (density - mean) / deviation.clamp(min=1e-3)
    return (mask * excess).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp(min=1e-3)
