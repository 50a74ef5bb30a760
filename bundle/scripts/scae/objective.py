"""What the S-CAE is trained for: the paper's objective, or that with a self-supervised term on v."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from monai.engines import default_prepare_batch
from monai.inferers import Inferer, SimpleInferer
from monai.losses import ContrastiveLoss
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import RequestError
from .network import SCAE, Decomposition

OBJECTIVES = ("paper", "extended")


class Recipe(NamedTuple):
    """The parts of a SupervisedTrainer that an objective decides."""

    prepare_batch: Callable[..., Any]
    inferer: Inferer
    loss: nn.Module  # its parameters are trained with the network's, and are not part of it


def make_recipe(
    objective: str,
    *,
    channels: int,
    views: Callable[[Tensor], Tensor],
    decoded: int = 8,
    weight: float = 0.1,
    temperature: float = 0.1,
) -> Recipe:
    """Choose what the S-CAE is trained for.

    Args:
        objective: "paper": reconstruct the patch through crosswise sparse maps. "extended": the same, and tell by v which two
            views are of one patch. Both are blind to labels.
        channels: C, the length of v.
        views: makes two views of every patch, see :class:`.views.StainViews`; extended only.
        decoded: views of a batch that are reconstructed; extended only.
        weight: of the contrastive term beside the mean squared error; extended only.
        temperature: of the contrastive term; extended only.

    Raises:
        RequestError: an unknown objective.
    """
    if objective == "paper":
        return Recipe(default_prepare_batch, SimpleInferer(), nn.MSELoss())
    if objective == "extended":
        return Recipe(
            PrepareViews(views),
            PartsInferer(decoded),
            ExtendedLoss(channels, weight=weight, temperature=temperature),
        )
    raise RequestError(f"unknown objective {objective!r}: expected one of {', '.join(OBJECTIVES)}")


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
    """Mean squared error of the reconstruction, and NT-Xent (Chen et al. 2020, SimCLR) between projections of v.

    The projector serves the loss alone: v itself is what encoding gives, and the S-CAE keeps its size.

    Args:
        channels: C, the length of v.
        weight: of the contrastive term.
        temperature: of the contrastive term.
        projected: length of a projection.
    """

    def __init__(self, channels: int, *, weight: float, temperature: float, projected: int = 64) -> None:
        super().__init__()
        self.weight = weight
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
        error = F.mse_loss(parts.reconstruction, views[: len(parts.reconstruction)])
        return error + self.weight * self.contrast(first, second)
