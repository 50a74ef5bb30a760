"""Crosswise sparsity: one spatial mask for every foreground channel (eq. 3; Hou et al. 2019, section 3)."""

import torch
from torch import Tensor, nn

from ..common.option_table import checked


class CrosswiseMask(nn.Module):
    """Detection map D' thresholded at the running rho-th percentile t of its values over all locations.

    Soft in training, D = sigmoid(r (D' - t)), so that the gradient reaches the encoder through D (never through t); hard, D' > t,
    in evaluation and encoding, so that zeros are exact. D' is normalised without scale or shift, so that r means the same
    throughout training.

    Args:
        in_channels: channels of the trunk.
        sparsity_rate: rho in percent, in (0, 100).
        momentum: m of t <- m t + (1 - m) percentile; the first batch sets t.
        sharpness: r.

    Raises:
        RequestError: a rate outside (0, 100).
    """

    threshold: Tensor
    batches: Tensor

    def __init__(
        self, in_channels: int, *, sparsity_rate: float = 90.0, momentum: float = 0.9, sharpness: float = 20.0
    ) -> None:
        super().__init__()
        checked("sparsity_rate", sparsity_rate)
        self.detect = nn.Conv2d(in_channels, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.sparsity_rate = sparsity_rate
        self.momentum = momentum
        self.sharpness = sharpness
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, trunk: Tensor) -> Tensor:
        """Return the mask (B, 1, H, W): soft in training, zeros and ones in evaluation."""
        if not self.training:
            return self.hard(trunk)
        detection = self.detection(trunk)
        with torch.no_grad():
            percentile = torch.quantile(detection.detach().float().flatten(), self.sparsity_rate / 100)
            kept = torch.where(
                self.batches == 0, torch.zeros_like(percentile), torch.full_like(percentile, self.momentum)
            )
            self.threshold.copy_(kept * self.threshold + (1 - kept) * percentile)
            self.batches.add_(1)
        return torch.sigmoid(self.sharpness * (detection - self.threshold.clone()))

    def hard(self, trunk: Tensor) -> Tensor:
        """Return the mask of zeros and ones."""
        return (self.detection(trunk) > self.threshold).to(trunk.dtype)

    def detection(self, trunk: Tensor) -> Tensor:
        """Return the detection map D' (B, 1, H, W)."""
        return self.norm(self.detect(trunk))
