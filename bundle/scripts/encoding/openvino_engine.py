"""A patch encoder in OpenVINO, which is installed on demand."""

import threading

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import nn

from ..common.errors import RequestError
from ..common.option_words import Precision
from ..common.process import compute_with
from .engine import network_input

PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOEngine:
    """A folded network, compiled for the CPU; every calling thread has a request, and so a stream, of its own.

    Args:
        network: the patch encoder.
        precision: "float32" or "bfloat16".

    Raises:
        RequestError: OpenVINO would compute in another precision on this processor.
    """

    name = "openvino"

    def __init__(self, network: nn.Module, *, precision: Precision = "float32") -> None:
        self.streams = torch.get_num_threads()
        self._input_px = int(network.input_px)  # type: ignore[arg-type]
        example = torch.zeros(2, 3, self._input_px, self._input_px)
        with torch.inference_mode(False), torch.no_grad():
            # OpenVINO would check its trace by a second one, which takes as long again
            traced = torch.jit.trace(network, example, strict=False, check_trace=False)
            model = openvino.convert_model(traced, example_input=example)
        model.reshape([-1, 3, self._input_px, self._input_px])
        options = {
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "INFERENCE_NUM_THREADS": self.streams,
            "NUM_STREAMS": self.streams,
            "ENABLE_CPU_PINNING": False,  # every process would pin itself to the first core
        }
        self._compiled = openvino.Core().compile_model(model, "CPU", options)
        used = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != PRECISION_HINTS[precision]:
            raise RequestError(
                f"precision is {precision!r}, and OpenVINO computes in {used} on this processor: expected engine torch, or "
                "precision float32"
            )
        self._of_thread = threading.local()

    @torch.inference_mode()
    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
            if threading.current_thread() is not threading.main_thread():
                compute_with(threads=1)
        batch = network_input(torch.from_numpy(patches), self._input_px).contiguous().numpy()
        return np.array(self._of_thread.request.infer([batch])[0], dtype=np.float32)
