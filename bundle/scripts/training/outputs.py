"""What Ignite's metrics see of an engine's output."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class ProbabilitiesAndLabels:
    """Turn the output of an evaluator into probabilities (B, classes) and one-hot labels (B, classes).

    A named class, not a lambda, so that worker processes can pickle it.
    """

    def __call__(self, output: Sequence[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Stack the items of a batch."""
        probabilities = torch.stack([torch.as_tensor(item["pred"]) for item in output])
        labels = torch.stack([torch.as_tensor(item["label"]) for item in output]).long().flatten()
        return probabilities, torch.nn.functional.one_hot(labels, probabilities.shape[1])
