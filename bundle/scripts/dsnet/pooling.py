"""From patches to the slide: the mean of the highest logits, and gated attention pooling (Ilse et al., ICML 2018)."""

import torch
from torch import Tensor, nn

from .sparse import LEAKY_SLOPE

UNSEEN = -1.0e4
"""Score of a patch that was not observed: its share of the attention is exactly zero."""


def top_mean(logits: Tensor, o: Tensor, share: float) -> Tensor:
    """Mean of the highest ``share`` of the observed patches' logits, class by class and at least of one patch.

    Args:
        logits: (B, classes, H, W).
        o: observation mask (B, 1, H, W).
        share: in (0, 1], of the observed patches of each slide.

    Returns:
        (B, classes); zeros for a slide with no observed patch.
    """
    count = o.flatten(1).sum(dim=1)
    taken = (share * count).round().clamp(min=1.0)
    falling, _ = torch.where(o > 0, logits, float("-inf")).flatten(2).sort(dim=2, descending=True)
    rank = torch.ones_like(falling[:, :1], dtype=torch.int32).cumsum(dim=2)
    highest = torch.where(rank <= torch.minimum(taken, count).view(-1, 1, 1), falling, 0.0)
    return highest.sum(dim=2) / taken.unsqueeze(1)


class GatedAttention(nn.Module):
    """Attention-based multiple instance learning with the gate of Ilse et al. 2018 (eq. 9) on maps of patches.

    With h = LeakyReLU(A v + b) of a patch, its attention is softmax(w (tanh(P h) * sigmoid(Q h))) over the observed patches of the
    slide. The source writes V for P, and U for Q. The logits of a patch are linear in h. The slide's logits are the mean of those
    of its patches by attention, which are those of the mean of h. Where a patch lies does not matter.

    Args:
        embedding_channels: C, channels of V.
        outputs: logits per patch.
        width: features h of a patch.
        hidden: size of the gate.
        dropout: share of the features h that are left out in training.
    """

    def __init__(
        self, embedding_channels: int, outputs: int, *, width: int = 128, hidden: int = 128, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(embedding_channels, width), nn.LeakyReLU(LEAKY_SLOPE), nn.Dropout(dropout)
        )
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.classifier = nn.Linear(width, outputs)
        self.unseen = UNSEEN  # TorchScript sees no globals

    def forward(self, v: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
        """Return attention (B, 1, H, W), of sum 1 over the observed patches, and logits (B, outputs, H, W), from V and its mask."""
        features = self.features(v.flatten(2).transpose(1, 2))
        score = self.score(torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features)))
        score = torch.where(o.flatten(2).transpose(1, 2) > 0, score, self.unseen)
        both = torch.cat([torch.softmax(score, dim=1), self.classifier(features)], dim=2)
        both = both.transpose(1, 2).reshape(v.shape[0], -1, v.shape[2], v.shape[3])
        return both[:, :1], both[:, 1:]


def attention_mean(logits: Tensor, attention: Tensor) -> Tensor:
    """Mean by ``attention`` (B, 1, H, W) of the patches' logits (B, classes, H, W): (B, classes)."""
    return (logits * attention).sum(dim=(2, 3))
