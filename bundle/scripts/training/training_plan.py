"""What a training of DSNet would do: slides, steps, time, memory. Nothing is written."""

import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from monai.engines import SupervisedTrainer

from ..common.networks import trainable_parameters
from ..common.ranks import is_first
from ..encoding.embedding_file import EmbeddingFile, embedding_file
from .training_table import EmbeddingTable
from .validation import validation_of

TIMED_STEPS = 3
GIB = 2**30


def print_plan(table: EmbeddingTable, trainer: SupervisedTrainer) -> None:
    """Print the plan of a training, with some steps timed on a batch of its slides; of several processes the first one prints.

    Args:
        table: the dataset.
        trainer: would train; its network computes, and its running statistics change.

    Raises:
        RequestError: a split has no slides.
    """
    items = {split: table.items(split) for split in ("train", "val")}
    lines = []
    for split, found in items.items():
        counts = Counter(table.class_names[item["label"]] for item in found)
        lines.append(
            f"{split}: {len(found)} slides ({', '.join(f'{count} of class {name}' for name, count in sorted(counts.items()))})"
        )
    files = [embedding_file(Path(item["embedding"])) for item in items["train"] + items["val"]]
    cells = [file.grid.shape_yx[0] * file.grid.shape_yx[1] for file in files]
    state: Any = trainer.state
    loader: Any = trainer.data_loader
    wanted_gib = loader.dataset.set_rate * sum(_kept_bytes(file, table) for file in files) / GIB
    most_gib = loader.dataset.memory.gib
    kept = f"{min(wanted_gib, most_gib):.2f} GiB" + (
        f" of {wanted_gib:.2f}, see --cache_memory#gib" if wanted_gib > most_gib else ""
    )
    epochs, steps, batch_size = state.max_epochs, state.epoch_length, loader.batch_size
    seconds = _step_s(trainer)
    validation = validation_of(trainer)
    validation_s = seconds / 3 / batch_size * len(items["val"])  # a step is about one forward and two more backward
    total_s = epochs * (steps * seconds + (validation_s / validation.interval if validation else 0))
    lines += [
        f"grids: {median(cells):,.0f} cells (median), {max(cells):,} (largest)",
        f"memory for the slides: {kept}",
        f"network: {trainable_parameters(trainer.network):,} trainable parameters on {state.device}",
        f"steps: {epochs} epochs of {steps} with {batch_size} slides each",
        f"time: about {total_s / 60:,.1f} minutes at {seconds:.2f} s per step (timed now on {TIMED_STEPS} steps)",
    ]
    if is_first():
        print("\n".join(lines))


def _kept_bytes(file: EmbeddingFile, table: EmbeddingTable) -> int:
    """Memory of a slide: the vectors of its patches, and a number and the pixels of T in each cell."""
    rows, columns = file.grid.shape_yx
    vectors = file.header.patches * table.channels * file.header.bytes_per_number
    return vectors + rows * columns * (4 + 12 * table.thumbnail_levels)


def _step_s(trainer: SupervisedTrainer) -> float:
    """Time forward and backward on one batch, after one that pays for the start."""
    loader: Any = trainer.data_loader
    device = trainer.state.device
    items = [loader.dataset[index] for index in range(min(loader.batch_size, len(loader.dataset)))]
    image, target = trainer.prepare_batch(loader.collate_fn(items), device, trainer.non_blocking)
    trainer.network.train()
    start_s = 0.0
    for step in range(TIMED_STEPS + 1):
        with torch.autocast("cuda", **trainer.amp_kwargs) if trainer.amp else nullcontext():  # as the trainer does
            loss = trainer.loss_function(trainer.inferer(image, trainer.network), target)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if step == 0:
            start_s = time.monotonic()
    return (time.monotonic() - start_s) / TIMED_STEPS
