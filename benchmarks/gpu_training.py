"""Sections of ``gpu_check.py`` on DSNet: a training step on a large slide, one process under torchrun, inference, and the tests."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from gpu_figures import REPO, Figure, Sizes, fastest_s, missing, quiet, run_stage, wait_for
from machine import peak_gib
from monai.utils import set_determinism
from stages import command_of
from training_cohort import write_cohort

from scripts.dsnet.checkpointing import checkpoint_blocks
from scripts.dsnet.network import DSNet
from scripts.dsnet.packing import pack_observed
from scripts.scae.scae_network import SCAE
from scripts.slides.synthetic import write_slide_set

LEVELS = 3
STEP_S = 120
GIB = 2**30


def training(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """A step on one slide whose patches were all observed, in mixed precision on a GPU, from half precision on the host."""
    for channels in sizes.channels:
        for name, options in (
            ("", {}),
            (", head patch", {"head": "patch"}),
            (", checkpointing", {"checkpointing": True}),
            (f", projection {sizes.projection}", {"projection": sizes.projection}),
        ):
            if name.startswith(", projection") and channels == sizes.channels[0]:
                continue
            yield from _step(f"C = {channels}{name}", channels, device, sizes, **options)


def _step(
    name: str, channels: int, device: torch.device, sizes: Sizes, *, checkpointing: bool = False, **options: object
) -> Iterator[Figure]:
    rows, columns = sizes.grid_yx
    set_determinism(seed=0)  # as train.yaml does
    on_gpu = device.type == "cuda"
    vectors = torch.randn(rows * columns, channels).half()
    t = torch.randint(0, 256, (1, 3 * LEVELS, 2 * rows, 2 * columns), dtype=torch.uint8)
    cells, label = torch.arange(rows * columns), torch.ones(1, dtype=torch.long, device=device)
    network = DSNet(embedding_channels=channels, thumbnail_levels=LEVELS, **options)
    network = checkpoint_blocks(network, enabled=checkpointing).to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)
    dense: list[torch.Tensor] = []

    def make_dense() -> None:
        dense[:] = [pack_observed(*(part.to(device) for part in (vectors, cells, t)))]

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16 if on_gpu else torch.bfloat16, enabled=on_gpu):
            loss = torch.nn.functional.cross_entropy(network(dense[0]), label)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield Figure(f"{name}: host to dense on the device", 1000 * fastest_s(make_dense, device, sizes.turns), "ms")
    yield Figure(f"{name}: step on {rows * columns:,} patches", 1000 * fastest_s(step, device, sizes.turns), "ms")
    peak = torch.cuda.max_memory_allocated(device) / GIB if on_gpu else peak_gib()
    yield Figure(f"{name}: peak memory", peak, "GiB" if on_gpu else "GiB of the process so far")


def one_process_group(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """train.yaml with multi_gpu_train.yaml under torchrun, one process: NCCL on a GPU, gloo on a CPU."""
    cohort = folder / "cohort"
    write_cohort(cohort, slides=4 * sizes.slides, distinct=4 * sizes.slides, patches=60, channels=32, density=0.6)
    given = {"dataset_dir": cohort, "output_dir": folder / "group", "max_epochs": 2}
    given |= {"warmup#total_iters": 0, "graph": "false"}
    given |= {} if device.type == "cuda" else {"device": device}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    command += command_of("training", "train.yaml", "multi_gpu_train.yaml", **given)
    backend = "NCCL" if device.type == "cuda" else "gloo"
    start = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        yield Figure(f"torchrun, one process, {backend}", f"failed: {last}")
        return
    yield Figure(f"torchrun, one process, {backend}: 2 epochs, whole command", time.perf_counter() - start, "s")


def inference(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """Generated slides through every stage on the device; the last, from slides to heat maps, is timed."""
    counts = dict.fromkeys(("train", "val", "test"), sizes.slides)
    with quiet():
        write_slide_set(folder / "slides", counts, seed=0, cells=6, num_workers=0)
    torch.manual_seed(0)
    torch.save(SCAE().state_dict(), folder / "scae.pt")
    given = {"encoder": folder / "scae.pt", "device": device}
    slides = folder / "slides" / "slides.csv"
    run_stage("encode.yaml", run_id="encoding", slides=slides, output_dir=folder / "embeddings", **given)
    run_stage(
        "train.yaml",
        "recommended.yaml",
        run_id="training",
        dataset_dir=folder / "embeddings",
        output_dir=folder / "model",
        device=device,
        max_epochs=2,
        graph=False,
    )
    given |= {"model": folder / "model" / "model.pt", "slides": slides, "output_dir": folder / "predictions"}
    start = time.perf_counter()
    run_stage("inference.yaml", run_id="inference", dataset_dir=folder / "encoded_anew", **given)
    wait_for(device)
    elapsed = time.perf_counter() - start
    maps = len(list((folder / "predictions").glob("*/cam.nii.gz")))
    yield Figure("slides encoded, classified and mapped", maps, "slides", f"= {3 * sizes.slides}")
    yield Figure("inference with heat maps", elapsed / maps, "s per slide")


def tests(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
    """The tests that need a GPU."""
    if device.type != "cuda":
        yield Figure("tests marked cuda", "not there: no CUDA")
        return
    if left_out := missing("tests marked cuda", "pytest"):
        yield left_out
        return
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider"]
    command += ["-W", "default", str(REPO / "tests" / "cuda")]  # a warning that only CUDA raises fails none
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=STEP_S, check=False)
    print(result.stdout, file=sys.stderr)
    yield Figure("tests marked cuda", (result.stdout.strip().splitlines() or ["no answer"])[-1], "", "no failure")
