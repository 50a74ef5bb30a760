"""Learning rate: linear warm-up, then a step decay (IV-D.b)."""

from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class WarmupStep:
    """Factor on the learning rate at an epoch, counted from 0.

    Attributes:
        start: factor at the first epoch (1e-6 / 1e-4 in the paper).
        warmup_epochs: epochs until the factor is 1 (ours: 5; the paper names no length).
        step_epochs: epochs between two decays.
        gamma: factor of a decay (0.2: "a factor of 5").
    """

    start: float = 0.01
    warmup_epochs: int = 5
    step_epochs: int = 30
    gamma: float = 0.2

    def __call__(self, epoch: int) -> float:
        """Return the factor."""
        if epoch < self.warmup_epochs:
            return self.start + (1 - self.start) * epoch / self.warmup_epochs
        return self.gamma ** (epoch // self.step_epochs)


def warmup_step_schedule(optimizer: Optimizer, **arguments: float) -> LambdaLR:
    """Schedule of :class:`WarmupStep`, stepped once an epoch."""
    return LambdaLR(optimizer, WarmupStep(**arguments))  # type: ignore[arg-type]
