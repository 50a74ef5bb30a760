"""Multiple instance learning with centre embeddings (Chikontwe et al., MICCAI 2020): a centre per class for patches and slides."""

from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import RequestError
from ..dsnet.baseline import Baseline, by_patch
from ..dsnet.sparse import LEAKY_SLOPE

PARTS = 4
"""Of the patches taken, in order: the pyramid has the mean of all, of either half, and of each quarter."""


class CentreEmbeddings(Baseline):
    """Patches are embedded; those most unlike the first class make the embedding of the slide, and both are drawn to centres.

    A patch has the embedding LeakyReLU(W v) and logits that are linear in it. Of a slide the ``taken`` patches of highest log-odds
    against the first class, the one without lesions, count. A pyramid of means over them in this order, of all, of either half
    and of each quarter, becomes the slide's embedding by one layer; its logits are linear in that. In training patches and
    slides learn the slide's class, and their embeddings come near to its centre (:class:`CentreLoss`). Slides with fewer patches
    than are taken give some twice. The source has a CNN on raw patches in the place of V; pyramid, number of patches and weights
    of the losses are ours where it leaves them open.

    Args:
        num_classes: K, classes of the slide label.
        width: size of the embeddings.
        taken: patches of a slide that decide, a multiple of 4.
        dropout: share of an embedding that is left out in training before it is classified.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(
        self, num_classes: int = 2, *, width: int = 128, taken: int = 16, dropout: float = 0.25, **common: Any
    ) -> None:
        super().__init__(num_classes, {"width": width, "taken": taken, "dropout": dropout}, **common)
        if taken % PARTS:
            raise RequestError(f"network_def#taken {taken}: expected a multiple of {PARTS}")
        self.taken = taken
        self.embed = nn.Sequential(nn.Linear(self.embedding_channels, width), nn.LeakyReLU(LEAKY_SLOPE))
        self.instance = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))
        self.pool = nn.Sequential(nn.Linear((2 * PARTS - 1) * width, width), nn.LeakyReLU(LEAKY_SLOPE))
        self.bag = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))
        self.centres = nn.Parameter(torch.randn(2, num_classes, width))  # of patches, and of slides
        self.parts = PARTS  # TorchScript sees no globals

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K); in training (B, 2 K + 2 K taken).

        Behind the logits lie the squared distances of the slide to the centres, (K), and of the patches taken the logits and
        the distances, each (K, taken).
        """
        v, o = self.patches(image)
        x, seen = v.flatten(2).transpose(1, 2), o.flatten(1) > 0
        embedded = self.embed(x)
        odds = self._odds(self.instance(embedded)).masked_fill(~seen, float("-inf"))
        last = (seen.sum(dim=1, keepdim=True) - 1).clamp(min=0)
        rank = torch.arange(self.taken, device=image.device).unsqueeze(0)
        places = odds.argsort(dim=1, descending=True).gather(1, torch.minimum(rank, last))
        highest = embedded.gather(1, places.unsqueeze(2).expand(-1, -1, embedded.shape[2]))  # (B, taken, width)
        quarters = highest.unflatten(1, [self.parts, -1]).mean(dim=2)
        halves = quarters.unflatten(1, [2, -1]).mean(dim=2)
        pyramid = torch.cat([halves.mean(dim=1, keepdim=True), halves, quarters], dim=1)
        slide = self.pool(pyramid.flatten(1))
        logits = self.bag(slide)
        if not self.training:
            return logits
        patches, to_patches = self.instance(highest).transpose(1, 2), self._distances(highest, 0).transpose(1, 2)
        return torch.cat([logits, self._distances(slide, 1), patches.flatten(1), to_patches.flatten(1)], dim=1)

    def _odds(self, logits: Tensor) -> Tensor:
        """Log-odds of the other classes together against the first, of logits (..., K)."""
        return torch.logsumexp(logits[..., 1:], dim=-1) - logits[..., 0]

    def _distances(self, x: Tensor, of: int) -> Tensor:
        """Mean squared differences (..., K) of embeddings (..., width) to the centres of patches, 0, or of slides, 1."""
        return (x.unsqueeze(-2) - self.centres[of]).square().mean(dim=-1)

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch, (B, K, H, W); without meaning where none was observed."""
        v, _ = self.patches(image)
        return by_patch(self.instance, by_patch(self.embed, v))


class CentreLoss(nn.Module):
    """The loss of the slide, that of the patches taken, and by ``weight`` the distances of both to the centre of their class.

    Args:
        slide_loss: of logits (B, K) and labels (B,).
        num_classes: K.
        weight: of the distances.
    """

    def __init__(self, slide_loss: nn.Module, num_classes: int, *, weight: float = 0.1) -> None:
        super().__init__()
        self.slide_loss = slide_loss
        self.num_classes = num_classes
        self.weight = weight

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        """Loss of what :class:`CentreEmbeddings` returns in training, and class indices (B,)."""
        k = self.num_classes
        logits, to_centre = output[:, :k], output[:, k : 2 * k]
        patches, to_patches = output[:, 2 * k :].unflatten(1, (2, k, -1)).unbind(dim=1)
        own = torch.arange(len(labels), device=labels.device), labels
        of_patches = nn.functional.cross_entropy(patches, labels[:, None].expand(-1, patches.shape[2]))
        distances = to_centre[own].mean() + to_patches[own].mean()
        loss: Tensor = self.slide_loss(logits, labels) + of_patches + self.weight * distances
        return loss
