"""Sections "memory" and "workers": slides of any size, and more than one process."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import peak_bytes
from repeated_slide import SIDES_PX, write_repeated_slide
from transformation_speed import BATCH, RandomEncoder, seconds

from scripts.encoding.embed import embed_slide
from scripts.encoding.job import EncodingJob
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.settings import EncodingSettings
from scripts.slides.opening import Reading
from scripts.slides.table import SlideRow

SLIDES = 24  # of section workers
ON_CORE = "import os\nfor task in os.listdir('/proc/self/task'): os.sched_setaffinity(int(task), {{{core}}})"


def memory(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Section "memory": each slide is encoded by a process of its own."""
    found = {}
    for name in arguments.pixels:
        slide = write_repeated_slide(folder / f"{name}.tif", side_px=SIDES_PX[name])
        command = [sys.executable, sys.argv[0], "--encode", str(slide), "--threads", str(arguments.threads)]
        content = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        found[name] = json.loads(content)
        print(name, content, file=sys.stderr, flush=True)
        slide.unlink()
    return found


def encode_and_tell(slide: Path, threads: int) -> None:
    """Encode one slide and print seconds, patches and peak memory as JSON."""
    torch.set_num_threads(threads)
    encoder = NamedEncoder(RandomEncoder(), device=torch.device("cpu"), engine="auto", batch_size=BATCH)
    with tempfile.TemporaryDirectory(dir=slide.parent) as folder:
        row = SlideRow(slide.stem, slide)
        start = time.perf_counter()
        patches = embed_slide(
            row,
            Path(folder) / "a.h5",
            encoder=encoder,
            settings=EncodingSettings(),
            reading=Reading(num_workers=threads),
        )
        elapsed = time.perf_counter() - start
    print(json.dumps({"seconds": elapsed, "patches": patches, "peak_bytes": peak_bytes(), "engine": encoder.engine}))


def workers(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Section "workers": seconds for the same slides, from the first task to the last, on workers that are up."""
    from distributed import Client, LocalCluster

    from scripts.encoding.cluster import DaskCluster
    from scripts.encoding.encoding_run import EncodingRun, encode_slides

    scans = folder / "scans"
    for index in range(SLIDES):
        write_repeated_slide(scans / f"{index}.tif", side_px=2 * 256 * 18)
    warm = write_repeated_slide(folder / "warm.tif", side_px=2048)
    found: dict[str, list[float]] = {}
    os.environ["OMP_NUM_THREADS"] = "1"
    for _ in range(arguments.repeats):
        for count in (1, 2, 4):
            local = LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None, memory_limit=0)
            with local as running, Client(running) as client:
                for core, address in enumerate(client.scheduler_info()["workers"]):
                    client.run(exec, ON_CORE.format(core=core % (os.cpu_count() or 1)), workers=[address])
                how = EncodingRun(cluster=DaskCluster(address=running.scheduler_address))
                job = EncodingJob(folder, RandomEncoder, engine="auto", resume=False, reading=Reading(num_workers=1))
                for turn in range(2 * count):  # every worker builds its encoder before the clock runs
                    encode_slides(warm, replace(job, output=folder / f"warm{turn}"), how)
                timed = replace(job, output=folder / f"out{count}")
                elapsed = seconds(lambda: encode_slides(scans, timed, how))
            found.setdefault(str(count), []).append(elapsed)
            print(f"{count} workers: {elapsed:.1f} s", file=sys.stderr, flush=True)
    return {"seconds": found, "slides": SLIDES}
