"""The choice of the engine that runs a patch encoder (docs/decisions/0009)."""

import torch
from torch import nn

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_types import Word
from ..common.option_words import Engine, Precision, words
from .engine import CudaEngine, PatchEngine, TorchEngine, fold_batch_norm


def make_engine(
    network: nn.Module, *, device: torch.device, engine: Engine = "auto", precision: Precision = "float32"
) -> PatchEngine:
    """Choose and build the engine of a patch encoder.

    Args:
        network: a :class:`.encoders.PatchEncoder`; it is copied.
        device: where it runs, a CPU or a CUDA device.
        engine: "torch"; "openvino", on a CPU alone; "auto": openvino on a CPU where it is installed and has the
            precision, else torch.
        precision: of the arithmetic: "float32", "bfloat16", or on CUDA "float16".

    Raises:
        RequestError: no engine is for this device, or the one that is named is unknown, not installed or for another. Or the
            device lacks the precision.
    """
    checked("engine", engine)
    checked("precision", precision, Word(words(Precision)))
    if device.type not in ("cpu", "cuda"):
        raise RequestError(
            f"device {device}: slides are not encoded there, expected cpu, cuda or cuda:N: name one with --device"
        )
    on_cpu = device.type == "cpu"
    if not computes_in(precision, device):
        others = " or ".join(word for word in words(Precision) if word != precision)
        what, elsewhere = ("a CPU", "") if on_cpu else ("this GPU", ", or --device cpu")
        raise RequestError(
            f"precision is {precision!r}, which {what} does not compute with: expected {others}{elsewhere}"
        )
    if engine == "openvino" and not on_cpu:
        raise RequestError(
            f"engine is 'openvino', which runs on a CPU alone, and the device is {device}: expected torch"
        )
    folded = fold_batch_norm(network)
    if on_cpu and engine != "torch":
        try:
            from .openvino_engine import OpenVINOEngine

            return OpenVINOEngine(folded, precision=precision)
        except RequestError:  # the processor lacks the precision
            if engine == "openvino":
                raise
        except ImportError as error:
            if engine == "openvino":
                raise RequestError(
                    f'OpenVINO is not installed ({error}), expected it for engine openvino: pip install "openvino>=2024.4"'
                ) from error
    if on_cpu:
        return TorchEngine(folded, precision=precision)
    return CudaEngine(folded, device=device, precision=precision)


def computes_in(precision: Precision, device: torch.device | str) -> bool:
    """Whether a device has the arithmetic of a precision; a GPU itself, not emulated."""
    type_ = torch.device(device).type
    if precision == "bfloat16" and type_ == "cuda":
        return gpu_has_bfloat16(torch.device(device))
    return precision != "float16" or type_ != "cpu"


def gpu_has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 itself, as NVIDIA's do from Ampere on."""
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)
