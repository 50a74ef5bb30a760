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
        share: over 0 to 1, of the observed patches of each slide.

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

    With h = LeakyReLU(W v + b) of a patch, its attention is softmax(w (tanh(V h) * sigmoid(U h))) over the observed patches of the
    slide, and the slide's logits are linear in the mean of h by attention. Where a patch lies does not matter.

    Args:
        embedding_channels: C, channels of V.
        num_classes: classes of the slide label.
        width: features h of a patch.
        hidden: size of the gate.
        dropout: share of the features h that are left out in training.
    """

    def __init__(
        self, embedding_channels: int, num_classes: int, *, width: int = 128, hidden: int = 128, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(embedding_channels, width), nn.LeakyReLU(LEAKY_SLOPE), nn.Dropout(dropout)
        )
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.classifier = nn.Linear(width, num_classes)
        self.unseen = UNSEEN  # TorchScript sees no globals

    def forward(self, v: Tensor, o: Tensor) -> Tensor:
        """Return the slide's logits (B, classes) from V (B, C, H, W) and its mask."""
        features = self.features(v.flatten(2).transpose(1, 2))
        score = self.score(torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features))).squeeze(2)
        attention = torch.softmax(torch.where(o.flatten(1) > 0, score, self.unseen), dim=1)
        return self.classifier(torch.bmm(attention.unsqueeze(1), features).squeeze(1))

    @torch.jit.unused
    def patch_logits(self, v: Tensor) -> Tensor:
        """What every patch says: its share of the slide's logits were all attention with it, (B, classes, H, W)."""
        logits: Tensor = self.classifier(self.features(v.flatten(2).transpose(1, 2)))
        return logits.transpose(1, 2).unflatten(2, v.shape[2:])
