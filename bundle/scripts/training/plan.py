"""What a training of DSNet would do: slides, steps, time, memory. Nothing is written."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from ..encoding.embedding_file import embedding_file
from .table import EmbeddingTable

TIMED_STEPS = 3
GIB = 2**30


def print_plan(
    table: EmbeddingTable,
    network: nn.Module,
    loss: nn.Module,
    transform: Callable[[Any], Any],
    collate: Callable[[Sequence[Any]], Any],
    *,
    device: torch.device | str,
    batch_size: int,
    max_epochs: int,
    val_interval: int = 1,
    cache_rate: float = 1.0,
    enabled: bool = True,
) -> None:
    """Print the plan of a training, with some steps timed on a batch of its slides, and end the process.

    Args:
        table: the dataset.
        network: takes the steps; its weights change.
        loss: of logits and labels.
        transform: makes a training item of one of the table's.
        collate: makes a batch of items.
        device: where the network runs.
        batch_size: slides a step.
        max_epochs: of the training.
        val_interval: epochs from one validation to the next.
        cache_rate: share of the slides kept in memory.
        enabled: False does nothing.

    Raises:
        RequestError: a split has no slides.
        SystemExit: always, where it is enabled.
    """
    if not enabled:
        return
    items = {split: table.items(split) for split in ("train", "val")}
    lines = []
    for split, found in items.items():
        counts = Counter(table.class_names[item["label"]] for item in found)
        lines.append(
            f"{split}: {len(found)} slides ({', '.join(f'{count} of class {name}' for name, count in sorted(counts.items()))})"
        )
    shapes = [embedding_file(Path(item["embedding"])).grid.shape_yx for item in items["train"] + items["val"]]
    cells = [rows * columns for rows, columns in shapes]
    channels = table.channels + 12 * table.thumbnail_levels
    steps = -(-len(items["train"]) // batch_size)
    seconds = _step_s(network.to(device), loss, transform, collate, items["train"][:batch_size], torch.device(device))
    validation_s = seconds / 3 / batch_size * len(items["val"])  # a step is about one forward and two more backward
    total_s = max_epochs * (steps * seconds + validation_s / val_interval)
    lines += [
        f"grids: {median(cells):,.0f} cells (median), {max(cells):,} (largest)",
        f"memory for the slides: {cache_rate * 4 * channels * sum(cells) / GIB:.2f} GiB",
        f"network: {sum(p.numel() for p in network.parameters() if p.requires_grad):,} trainable parameters on {device}",
        f"steps: {max_epochs} epochs of {steps} with {batch_size} slides each",
        f"time: about {total_s / 60:,.1f} minutes at {seconds:.2f} s a step (timed now on {TIMED_STEPS} steps)",
    ]
    print("\n".join(lines))
    raise SystemExit(0)


def _step_s(
    network: nn.Module,
    loss: nn.Module,
    transform: Callable[[Any], Any],
    collate: Callable[[Sequence[Any]], Any],
    items: Sequence[dict[str, Any]],
    device: torch.device,
) -> float:
    """Time forward and backward on one batch, after one that pays for the start."""
    batch = collate([transform(item) for item in items])
    image, label = batch["image"].to(device), torch.as_tensor(batch["label"]).to(device)
    network.train()
    start_s = 0.0
    for step in range(TIMED_STEPS + 1):
        loss(network(image), label).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if step == 0:
            start_s = time.monotonic()
    return (time.monotonic() - start_s) / TIMED_STEPS
