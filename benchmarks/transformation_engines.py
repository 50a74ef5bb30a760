"""Section "engines": the ways to run S-CAE's encoder on a CPU that decision 0009 chose from."""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformation_speed import BATCH, NETWORK_PX, RandomEncoder, encode_all, encoders, seconds

from scripts.encoding.engine import fold_batch_norm, network_input

BATCHES, TIMES = 16, 3
REST_S = 0.5  # the threads of a team spin for a while after their work, at the cost of what is measured next
Run = Callable[[torch.Tensor], object]
Patches = NDArray[np.uint8]


def engines(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Patches of 112 px in memory, uint8, to vectors, float32: each way in turn, ``--repeats`` times; nothing is resized.

    The first five compute a batch with a team of all threads, as is usual; those named "engine" are the bundle's own, which give
    every thread a batch of its own.
    """
    torch.set_num_threads(arguments.threads)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCHES, BATCH, NETWORK_PX, NETWORK_PX, 3), dtype=np.uint8)
    ways = teams(arguments.threads, prepared(pixels[0]))
    own = encoders(arguments.threads)
    turns: dict[str, list[float]] = {}

    def note(name: str, work: Callable[[], object]) -> None:
        time.sleep(REST_S)
        turns.setdefault(name, []).append(TIMES * BATCHES * BATCH / seconds(work))

    with torch.inference_mode():
        for _ in range(arguments.repeats):
            for name, run in ways.items():
                note(name, lambda: [run(prepared(batch)) for _ in range(TIMES) for batch in pixels])
            for name, encoder in own.items():
                if "float32" in name:
                    note(f"engine {name}", lambda: encode_all(encoder, list(pixels), TIMES))
    return {"turns": turns}


def prepared(patches: Patches) -> torch.Tensor:
    """Turn patches as read (N, 112, 112, 3) into network input, as the bundle's engines do."""
    return network_input(torch.from_numpy(patches), NETWORK_PX)


def teams(threads: int, example: torch.Tensor) -> dict[str, Run]:
    """Build the ways that are not the bundle's; what is not installed is left out and named."""
    encoder = RandomEncoder()
    folded = fold_batch_norm(encoder)
    last = folded.to(memory_format=torch.channels_last)

    def channels_last(network: nn.Module) -> Run:
        return lambda batch: network(batch.contiguous(memory_format=torch.channels_last))

    made: dict[str, Run] = {
        "eager": encoder,
        "channels-last": channels_last(RandomEncoder().to(memory_format=torch.channels_last)),
        "channels-last, folded": channels_last(last),
        "channels-last, folded, torch.compile": channels_last(torch.compile(last)),
    }
    try:
        made["folded, ONNX Runtime"] = onnx_runtime(fold_batch_norm(encoder), example, threads)
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
    with torch.inference_mode():
        for run in made.values():
            run(example)
    return made


def onnx_runtime(network: nn.Module, example: torch.Tensor, threads: int) -> Run:
    """Export the network and load it in ONNX Runtime."""
    import onnxruntime

    content = io.BytesIO()
    axes = {"patches": {0: "batch"}}
    torch.onnx.export(
        network, (example,), content, input_names=["patches"], dynamic_axes=axes, opset_version=18, dynamo=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"patches": batch.contiguous().numpy()})
