"""All that needs a GPU, measured in one go on one card in under 6 minutes: ``results.json`` and ``table.md``; also: make gpu-check.

    python benchmarks/gpu_check.py --output_dir gpu                       # on the first GPU
    python benchmarks/gpu_check.py --output_dir gpu --device cpu --small  # every line of it that a CPU can run

Every section runs in a process of its own, so that one that fails, or hangs, costs itself alone; what is not there is told. Nothing is
fetched, and all data are generated. Besides Python 3.11 or 3.12 and torch with CUDA it needs wheels (pip install):

    monai pytorch-ignite numpy scipy scikit-image scikit-learn matplotlib pillow tifffile imagecodecs h5py nibabel openslide-python
    openslide-bin simplejpeg tensorboard pyyaml fire tqdm filelock jinja2 huggingface-hub requests pytest

and, to decode on the GPU, cucim-cu13 nvidia-nvjpeg nvidia-nvjpeg2k-cu13 nvidia-nvtiff-cu13 (for CUDA 12 those of the extra cu12).
TensorRT takes part where tensorrt, polygraphy and onnx are installed.

machine            what the figures belong to
decode             patches decoded on the device against the CPU's pixels
engines, tensorrt  the encoder by each way to run it, with its deviation from float32
end_to_end         slide to embedding file against the slower of reader and encoder
training           a step of DSNet on 140,000 patches, C = 128, 1,024 and 1,536: time and peak memory
one_process_group  train.yaml under torchrun on one device
inference          slides to predictions and heat maps
tests              those marked cuda
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from gpu_encoding import decode, end_to_end, engines, tensorrt
from gpu_figures import SMALL, Figure, Sizes
from gpu_training import inference, one_process_group, tests, training

LIMIT_S = 345
PACKAGES = (
    "torch", "monai", "pytorch-ignite", "cucim-cu13", "cucim-cu12", "nvidia-nvimgcodec-cu13", "nvidia-nvjpeg", "tensorrt", "triton",
    "openslide-python", "numpy",
)  # fmt: skip


def machine(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """What the figures belong to."""
    yield Figure("python", platform.python_version())
    for name in PACKAGES:
        try:
            yield Figure(name, version(name))
        except PackageNotFoundError:
            yield Figure(name, "not installed")
    yield Figure("processor", f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads")
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        yield Figure("GPU", card.name)
        yield Figure("memory of the GPU", card.total_memory / 2**30, "GiB")
        yield Figure("CUDA of torch", str(torch.version.cuda))
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.split()
        yield Figure("driver", told[0] if told else "nvidia-smi does not tell")


SECTIONS: dict[str, Callable[[torch.device, Sizes, Path], Iterator[Figure]]] = {
    section.__name__: section
    for section in (
        machine,
        decode,
        engines,
        training,
        end_to_end,
        inference,
        one_process_group,
        tests,
        tensorrt,
    )
}
"""In the order in which they are run; what is less likely to be there comes last."""


def run_section(name: str, device: str, small: bool, output: Path) -> None:
    """Run one section in this process and write its figures as they come, a JSON object per line."""
    sizes = SMALL if small else Sizes()
    with tempfile.TemporaryDirectory() as scratch, open(output, "w", encoding="utf-8") as file:
        for figure in SECTIONS[name](torch.device(device), sizes, Path(scratch)):
            print(json.dumps(asdict(figure)), file=file, flush=True)


def run_apart(name: str, arguments: argparse.Namespace, left_s: float) -> dict[str, Any]:
    """Run one section in a process of its own and return what it found, and why it ended."""
    output = arguments.output_dir / f"{name}.jsonl"
    command = [sys.executable, __file__, "--section", name, "--device", arguments.device, "--output_dir", str(output)]
    start = time.perf_counter()
    try:
        result = subprocess.run(
            [*command, *(["--small"] if arguments.small else [])],
            capture_output=True,
            text=True,
            timeout=max(left_s, 1),
            check=False,
        )
        said = result.stderr.strip().splitlines()
        ended = "done" if result.returncode == 0 else f"failed: {said[-1] if said else result.returncode}"
        (arguments.output_dir / f"{name}.log").write_text(result.stdout + result.stderr, encoding="utf-8")
    except subprocess.TimeoutExpired:
        ended = f"no time left: it was ended after {left_s:.0f} s"
    lines = output.read_text(encoding="utf-8").splitlines() if output.is_file() else []
    output.unlink(missing_ok=True)
    elapsed = round(time.perf_counter() - start, 1)
    return {"ended": ended, "seconds": elapsed, "figures": [json.loads(line) for line in lines]}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Make the table out of ``results``."""
    lines = ["| section | what | figure | bar |", "|---|---|---|---|"]
    for name, found in results.items():
        for figure in found["figures"]:
            value = figure["value"]
            told = value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
            lines.append(
                f"| {name} | {figure['what']} | {' '.join(filter(None, (told, figure['unit'])))} | {figure['bar']} |"
            )
        lines.append(f"| {name} | ended | {found['ended']}, {found['seconds']:.0f} s | |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run the sections and write the files; the exit code says whether all ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes that a CPU takes")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.section:
        run_section(arguments.section, arguments.device, arguments.small, arguments.output_dir)
        return 0
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch sees no GPU: expected one, or --device cpu --small", file=sys.stderr)
        return 2
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    start = time.perf_counter()
    for name in arguments.sections:
        results[name] = run_apart(name, arguments, LIMIT_S - (time.perf_counter() - start))
        print(f"{name}: {results[name]['ended']}, {results[name]['seconds']:.0f} s", file=sys.stderr, flush=True)
        (arguments.output_dir / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (arguments.output_dir / "table.md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))
    return int(any(found["ended"] != "done" for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
