"""Section "engines": the ways to run S-CAE's encoder on a CPU that decision 0009 chose from."""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformation_speed import BATCH, NETWORK_PX, RandomEncoder, encode_all, encoders, seconds

from scripts.encoding.engine import fold_batch_norm

BATCHES = 8
Run = Callable[[torch.Tensor], object]


def engines(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Patches of 112 px in memory to vectors, float32: each way in turn, ``--repeats`` times; nothing is resized.

    The first five compute a batch with a team of all threads, as is usual; those named "engine" are the bundle's own, which give
    every thread a batch of its own.
    """
    torch.set_num_threads(arguments.threads)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCHES, BATCH, NETWORK_PX, NETWORK_PX, 3), dtype=np.uint8)
    inputs = torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).float().div(255).contiguous()
    ways = {name: (run, inputs) for name, run in teams(arguments.threads, inputs[0]).items()}
    own = encoders(arguments.threads)
    turns: dict[str, list[float]] = {}
    with torch.inference_mode():
        for _ in range(arguments.repeats):
            for name, (run, batches) in ways.items():
                turns.setdefault(name, []).append(BATCHES * BATCH / seconds(lambda: [run(b) for b in batches]))
            for name, encoder in own.items():
                if "float32" in name:
                    elapsed = seconds(lambda: encode_all(encoder, list(pixels), 1))
                    turns.setdefault(f"engine {name}", []).append(BATCHES * BATCH / elapsed)
    return {"turns": turns}


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
    return lambda batch: session.run(None, {"patches": batch.numpy()})
