"""The loss, with or without weights for rare classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .slide_item import SlideItem


class BalancedCrossEntropy(nn.Module):
    """Cross-entropy in which every class counts as much: slides of class c weigh N / (K n_c), of N slides of K classes.

    The sum over a batch is divided by its number of slides, not by the sum of their weights as ``CrossEntropyLoss`` does it. With
    batches of one slide that would undo the weights. Over all training slides the mean weight is 1, so the learning rate keeps its
    meaning. The mean over the processes of a distributed training is that of the whole batch.

    Args:
        labels: class of every training slide.
        num_classes: K.
    """

    weight: Tensor

    def __init__(self, labels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        counts = torch.bincount(torch.as_tensor(labels), minlength=num_classes)
        self.register_buffer("weight", len(labels) / (num_classes * counts.float()))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of logits (B, K) and class indices (B,)."""
        return cross_entropy(logits, labels, weight=self.weight, reduction="none").mean()


def classification_loss(items: Sequence[SlideItem], num_classes: int, *, balance: bool) -> nn.Module:
    """The paper's cross-entropy, or with ``balance`` the one above for the training slides ``items``."""
    return BalancedCrossEntropy([item["label"] for item in items], num_classes) if balance else nn.CrossEntropyLoss()
