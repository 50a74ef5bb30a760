"""What runs a patch encoder, as fast as the machine allows (docs/decisions/0009)."""

import copy
import threading
from itertools import pairwise
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..common.option_words import Precision
from ..common.process import compute_with
from ..slides.geometry import resize_patches

DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CUDA_STREAMS = 2
"""Calls at once on a GPU: while one batch is computed, the next is copied."""

BATCH_MULTIPLE = 16
"""Batches are filled up to a multiple of this: oneDNN rounds otherwise in the rest of a batch, by one unit in the last place."""


class PatchEngine(Protocol):
    """Turns patches as read, uint8 (N, h, w, 3), into vectors, float32 (N, C); may be called from several threads at once."""

    name: str
    streams: int

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches; what a patch becomes does not depend on the others."""
        ...


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose batch norms that follow a convolution directly are part of its weights.

    No weight asks for a gradient: of one that does, autocast keeps the cast for all threads, whatever stream they compute in.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    for sequence in copied.modules():
        if isinstance(sequence, nn.Sequential):
            for index, (first, second) in enumerate(pairwise(list(sequence))):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    sequence[index] = fuse_conv_bn_eval(first, second)
                    sequence[index + 1] = nn.Identity()
    return copied


def network_input(patches: Tensor, input_px: int) -> Tensor:
    """Resize patches (N, h, w, 3) to the network input, float32 (N, 3, S, S) in 0..1."""
    return resize_patches(patches, input_px) / 255


class TorchEngine:
    """A folded network on the CPU; every call computes in its own thread, with no team of threads that waits for its slowest."""

    name = "torch"

    def __init__(self, network: nn.Module, *, precision: Precision = "float32") -> None:
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dtype = DTYPES[precision]
        self._input_px = int(network.input_px)  # type: ignore[arg-type]
        self.streams = torch.get_num_threads()

    @torch.inference_mode()
    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches."""
        if threading.current_thread() is not threading.main_thread():
            compute_with(threads=1)
        count = len(patches)
        batch = network_input(torch.from_numpy(patches), self._input_px)
        if missing := -count % BATCH_MULTIPLE:
            batch = torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)])
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=self._dtype, enabled=self._dtype != torch.float32):
            return self._network(batch)[:count].float().numpy()


class CudaEngine:
    """A folded network on a GPU: pinned memory, copies that do not block, and a stream for each of the calls at one time.

    Of ``precision`` "float32" no convolution of the process rounds its factors to TF32 any more: GPUs with it and without agree.
    """

    name = "torch"
    streams = CUDA_STREAMS

    def __init__(self, network: nn.Module, *, device: torch.device, precision: Precision = "float32") -> None:
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._dtype = DTYPES[precision]
        self._input_px = int(network.input_px)  # type: ignore[arg-type]
        self._free: SimpleQueue[torch.cuda.Stream] = SimpleQueue()
        for _ in range(self.streams):
            self._free.put(torch.cuda.Stream(device))
        if precision == "float32":
            torch.backends.cudnn.allow_tf32 = False

    @torch.inference_mode()
    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches."""
        stream = self._free.get()
        try:
            return self._encode(patches, stream)
        finally:
            self._free.put(stream)

    def _encode(self, patches: NDArray[np.uint8], stream: torch.cuda.Stream) -> NDArray[np.float32]:
        with torch.cuda.stream(stream), torch.autocast("cuda", self._dtype, enabled=self._dtype != torch.float32):
            batch = torch.from_numpy(patches).pin_memory().to(self._device, non_blocking=True)
            batch = network_input(batch, self._input_px).contiguous(memory_format=torch.channels_last)
            vectors = self._network(batch).float()
            host = torch.empty(vectors.shape, pin_memory=True).copy_(vectors, non_blocking=True)
        stream.synchronize()
        return host.numpy()
