"""Losses of the cells that :mod:`.lesion_targets` tell of, alone or beside that of the slides."""

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import RequestError
from ..common.option_table import checked
from ..dsnet.heat_map import Network
from ..dsnet.network import DSNet
from ..dsnet.segmentation import NO_TISSUE_LOGIT
from .lesion_targets import LESION, UNKNOWN


def with_patches(network: Network) -> Network:
    """Let ``forward`` of ``network`` return the logits of the slide and of its patches, as :class:`SlideAndPatchLoss` takes them.

    Weights and all other methods stay. The network can no longer be scripted; a new one that takes its weights can.

    Raises:
        RequestError: it has no logits of patches.
    """
    if not isinstance(network, DSNet) or network.decoder is None:
        raise RequestError(
            "network_def: this network decides at the slide, expected head patch for masks: put recommended.yaml before masks.yaml"
        )
    network.forward = network.decide  # type: ignore[assignment]
    return network


class CellLoss(nn.Module):
    """MONAI's ``DiceCELoss`` over some cells of a batch, all slides together: most slides hold no lesion."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = DiceCELoss(sigmoid=True)

    def forward(self, logits: Tensor, lesion: Tensor, counted: Tensor) -> Tensor:
        """Loss of logits and targets, both (B, 1, H, W), where ``counted`` (B, 1, H, W) is True."""
        loss: Tensor = self.loss(logits[counted].float()[None, None], (lesion[counted] == LESION).float()[None, None])
        return loss


class LesionLoss(nn.Module):
    """`CellLoss` of a segmentation; patches left out by chance do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.of_cells = CellLoss()

    def forward(self, logits: Tensor, lesion: Tensor) -> Tensor:
        """Loss of logits and targets, both (B, 1, H, W)."""
        loss: Tensor = self.of_cells(logits, lesion, (lesion != UNKNOWN) & (logits != NO_TISSUE_LOGIT))
        return loss


class SlideAndPatchLoss(nn.Module):
    """Loss of the slides, and ``weight`` times `CellLoss` of the cells that are known.

    Args:
        of_slides: loss of logits (B, 2) and labels (B,).
        weight: of the cells.

    Raises:
        RequestError: ``weight`` is negative.
    """

    def __init__(self, of_slides: nn.Module, weight: float) -> None:
        super().__init__()
        self.of_slides = of_slides
        self.weight = checked("mask_loss#weight", weight)
        self.of_cells = CellLoss()

    def forward(self, logits: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of logits of slides (B, 2) and patches (B, 2, H, W), and of labels (B,) and targets (B, 1, H, W)."""
        slides, patches = logits
        labels, lesion = targets
        loss: Tensor = self.of_slides(slides, labels)
        known = lesion != UNKNOWN
        if known.any():
            loss = loss + self.weight * self.of_cells(patches[:, 1:] - patches[:, :1], lesion, known)
        return loss


class PatchLoss(nn.Module):
    """Cross-entropy of the patches that masks or class 0 tell of: a lesion has the class of its slide, all else the first."""

    def forward(self, patches: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of logits (B, K, H, W), and of labels (B,) and targets (B, 1, H, W); the mean over the patches of the batch."""
        labels, lesion = targets
        classes = torch.where(lesion[:, 0] == LESION, labels.view(-1, 1, 1), 0)
        known = lesion[:, 0] != UNKNOWN
        loss: Tensor = (F.cross_entropy(patches, classes, reduction="none") * known).sum() / known.sum().clamp(min=1)
        return loss
