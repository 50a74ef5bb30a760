"""Sections of ``gpu_check.py`` on Transformation: decoding, engines, TensorRT, and all of it end to end."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from gpu_figures import CELLS_PER_1E8_PX, Figure, Sizes, fastest_s, missing
from repeated_slide import write_repeated_slide
from torch import nn
from transformation_report import PAPER_MS
from transformation_speed import Case, RandomEncoder, encode_all, seconds

from scripts.common.errors import SlideError
from scripts.encoding.engine import fold_batch_norm, network_input
from scripts.encoding.named_encoder import NamedEncoder
from scripts.scae.scae_network import SCAE
from scripts.slides.opening import Reading, open_slide

THREADS = 8
COMPARED = 512
TILE_PX = 256


def decode(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """Patches decoded by the device against those that cuCIM decodes on the CPU."""
    if left_out := missing("decoding by cuCIM", "cucim"):
        yield left_out
        return
    case = Case(write_repeated_slide(folder / "slide.tif", side_px=sizes.slide_px), "highest", THREADS)
    coords = case.prepared.coords_xy_px
    pixels = {}
    for where in dict.fromkeys(("cpu", device.type)):
        with open_slide(case.row.path, Reading(backend="cucim", num_workers=THREADS, device=where)) as reader:
            options = {"size_xy_px": case.size, "level": case.prepared.plan.level}
            pixels[where] = reader.read_patches(coords[:COMPARED], **options).astype(np.int16)
            elapsed = seconds(lambda: sum(1 for _ in reader.iter_patches(coords, batch_size=sizes.batch, **options)))
        yield Figure(f"cuCIM on {where}, level 0", len(coords) / elapsed, "patches/s")
    apart = np.abs(pixels[device.type] - pixels["cpu"])
    yield Figure(f"pixels of {device.type} against cpu, mean difference", float(apart.mean()), "grey levels", "<= 0.5")
    yield Figure(f"pixels of {device.type} against cpu, largest difference", float(apart.max()), "grey levels")
    yield from _nv_image_codec(case, device)


def _nv_image_codec(case: Case, device: torch.device) -> Iterator[Figure]:
    """A tile by nvImageCodec alone, against libjpeg."""
    if device.type != "cuda":
        yield Figure("nvImageCodec", "not there: no CUDA")
        return
    if left_out := missing("nvImageCodec", "nvidia.nvimgcodec", "imagecodecs"):
        yield left_out
        return
    import imagecodecs
    from nvidia import nvimgcodec

    tile = case.in_memory(1)[0][0]
    encoded = imagecodecs.jpeg_encode(np.ascontiguousarray(tile), level=85)
    found = nvimgcodec.Decoder().decode(encoded)
    if found is None:
        yield Figure("nvImageCodec", "not there: it decodes no JPEG on this machine")
        return
    apart = np.abs(np.asarray(found.cpu()).astype(np.int16) - imagecodecs.jpeg_decode(encoded))
    yield Figure("nvImageCodec against libjpeg, mean difference", float(apart.mean()), "grey levels", "<= 0.5")


def engines(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """S-CAE's encoder on patches of 112 px that lie on the device, by each way to run it; float32 without TF32 is the measure."""
    network = fold_batch_norm(RandomEncoder()).to(device=device, memory_format=torch.channels_last)
    batch = _patches_on(device, sizes)
    with torch.inference_mode():
        with _without_tf32():
            exact = network(batch)
        for name, run in _ways(network, device, sizes.compiler).items():
            yield from _figures_of(name, run, batch, exact, device, sizes)


def tensorrt(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """The same by TensorRT, in half precision, through MONAI's compiler."""
    if device.type != "cuda":
        yield Figure("TensorRT", "not there: no CUDA")
        return
    if left_out := missing("TensorRT", "tensorrt", "polygraphy", "onnx"):
        yield left_out
        return
    from monai.networks import trt_compile

    network = fold_batch_norm(RandomEncoder()).to(device)
    batch = _patches_on(device, sizes)
    profile = [[1, *batch.shape[1:]], list(batch.shape), list(batch.shape)]
    options = {"precision": "fp16", "input_profiles": [{"patches": profile}], "export_args": {"dynamo": False}}
    compiled = trt_compile(copy.deepcopy(network), str(folder / "encoder"), args=options)
    with torch.inference_mode():
        with _without_tf32():
            exact = network(batch)
        yield from _figures_of("TensorRT, float16", compiled, batch, exact, device, sizes)


def _patches_on(device: torch.device, sizes: Sizes) -> torch.Tensor:
    px = SCAE.input_px
    pixels = np.random.default_rng(0).integers(0, 256, (sizes.batch, px, px, 3), dtype=np.uint8)
    return network_input(torch.from_numpy(pixels).to(device), px).contiguous(memory_format=torch.channels_last)


def _ways(network: nn.Module, device: torch.device, compiler: str) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """The ways to run the encoder, all of them channels-last with folded norms but the first."""

    def in_half(dtype: torch.dtype, run: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        def encode(batch: torch.Tensor) -> torch.Tensor:
            with torch.autocast(device.type, dtype):
                return run(batch)

        return encode

    def exactly(batch: torch.Tensor) -> torch.Tensor:
        with _without_tf32():
            return network(batch)

    plain = RandomEncoder().to(device)
    compiled = torch.compile(network, backend=compiler)
    halves = (torch.float16, torch.bfloat16) if device.type == "cuda" else (torch.bfloat16,)
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "float32, channels first": lambda batch: plain(batch.contiguous()),
        "float32": network,
        "float32, without TF32": exactly,
        "float32, torch.compile": compiled,
    }
    for dtype in halves:
        name = str(dtype).removeprefix("torch.")
        ways[name] = in_half(dtype, network)
    first = str(halves[0]).removeprefix("torch.")
    ways[f"{first}, torch.compile"] = in_half(halves[0], compiled)
    return ways


def _figures_of(
    name: str,
    run: Callable[[torch.Tensor], torch.Tensor],
    batch: torch.Tensor,
    exact: torch.Tensor,
    device: torch.device,
    sizes: Sizes,
) -> Iterator[Figure]:
    repeats = -(-sizes.patches // len(batch))
    apart = (run(batch).float() - exact).abs().max() / exact.std()
    elapsed = fastest_s(lambda: [run(batch) for _ in range(repeats)], device, sizes.turns)
    rate = repeats * len(batch) / elapsed
    bar = "<= 0.02" if name.startswith("float32") else "<= 0.1"
    yield Figure(f"{name}: encoder", rate, "patches/s")
    yield Figure(f"{name}: largest deviation of v from float32", float(apart), "standard deviations", bar)
    yield Figure(f"{name}: network alone (paper {PAPER_MS})", 1000 * CELLS_PER_1E8_PX / rate, "ms per 1e8 pixels")


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Convolutions of float32 in float32, where a GPU would round their factors to 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def end_to_end(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """A slide to its embedding file against the slower of reader and encoder, decoded by the CPU and by the device."""
    slide = write_repeated_slide(folder / "slide.tif", side_px=sizes.slide_px)
    precisions = ("float32", "float16") if device.type == "cuda" else ("float32",)
    for level in ("auto", "highest"):
        case = Case(slide, level, THREADS)
        yield Figure(f"{level}: reader", case.patches / case.reader_s(), "patches/s")
        batches = case.in_memory(max(1, sizes.patches // sizes.batch), sizes.batch)
        count = sum(map(len, batches))
        for precision in precisions:
            encoder = NamedEncoder(RandomEncoder(), device=device, precision=precision, batch_size=sizes.batch)
            encode_all(encoder, batches, 1)
            rate = count / min(seconds(lambda: encode_all(encoder, batches, 1)) for _ in range(sizes.turns))
            yield Figure(f"{level}, {precision}: encoder", rate, "patches/s")
            slower = min(rate, case.patches / case.reader_s())
            for where in dict.fromkeys(("cpu", device.type)):
                name = f"{level}, {precision}, decoded by {where}"
                try:
                    elapsed = seconds(lambda: case.end_to_end(encoder, folder, decode_device=where))
                except SlideError as error:
                    yield Figure(f"{name}: end to end", f"failed: {error}")
                    continue
                per_1e8 = 1000 * elapsed / (sizes.slide_px**2 / 1e8)
                yield Figure(f"{name}: end to end", case.patches / elapsed, "patches/s")
                yield Figure(f"{name}: end to end (paper, network alone: {PAPER_MS})", per_1e8, "ms per 1e8 pixels")
                yield Figure(
                    f"{name}: slower of reader and encoder / end to end",
                    slower * elapsed / case.patches,
                    "",
                    "<= 1.1" if where == "cpu" else "",
                )
