"""What it costs to encode in a process that may die (docs/decisions/0013), against encoding in the process that asks.

    python benchmarks/apart.py --output_dir bench --repeats 5

Turn by turn, a fresh process encodes one generated slide of 1e8 pixels several times, once itself and once apart. Printed are the
medians over the turns: seconds to start (the encoder is made), processor seconds and seconds per slide, the most memory that both processes
held together (proportional set size, so that what they share counts once), and the ratios of the pairs.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

import torch
from repeated_slide import SIDES_PX, write_repeated_slide
from transformation_speed import BATCH, RandomEncoder

from scripts.encoding.job import EncodingJob, Task
from scripts.encoding.settings import EncodingSettings
from scripts.slides.opening import Reading
from scripts.slides.table import SlideRow

SLIDES = 7  # per process; the first is not timed
SAMPLE_S = 0.1


def encode(mode: str, slide: Path, level: str, threads: int) -> None:
    """Encode a slide several times in this process, or apart, and print what it took as JSON."""
    torch.set_num_threads(threads)
    row = SlideRow(slide.stem, slide)
    with tempfile.TemporaryDirectory(dir=slide.parent) as folder:
        job = EncodingJob(
            Path(folder),
            RandomEncoder,
            batch_size=BATCH,
            engine="auto",
            resume=False,
            reading=Reading(num_workers=threads),
            settings=EncodingSettings(read_level=level),
        )
        begin = time.perf_counter()
        with job.apart(job.encode) as apart:
            if mode == "apart":
                apart.start(job.prepare)
            else:
                job.prepare()
            start = time.perf_counter() - begin
            for index in range(SLIDES):
                if index == 1:
                    begin, processor = time.perf_counter(), processor_seconds(mode)
                if mode == "apart":
                    (entry,) = job.encode_in(apart, [row])
                else:
                    entry = job.encode(Task(row, job.seen(row.slide_id)))
                if entry.status != "done":
                    raise RuntimeError(entry.error)
            elapsed, processor = time.perf_counter() - begin, processor_seconds(mode) - processor
    count = SLIDES - 1
    print(json.dumps({"start": start, "seconds": elapsed / count, "processor": processor / count}))


def processor_seconds(mode: str) -> float:
    """Processor time of this process and of the one that it has started."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    if mode == "apart":
        for child in children(os.getpid()):
            fields = Path(f"/proc/{child}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def children(process: int) -> list[int]:
    """Processes that a process has started, in any of its threads."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        found += map(int, path.read_text(encoding="ascii").split())
    return found


def measured(mode: str, slide: Path, level: str, threads: int) -> dict[str, float]:
    """Run :func:`encode` in a process of its own and watch its memory."""
    words = ["--mode", mode, "--slide", slide, "--level", level, "--threads", threads, "--output_dir", slide.parent]
    most = 0
    with subprocess.Popen([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                most = max(most, sum(map(pss_bytes, [process.pid, *children(process.pid)])))
            time.sleep(SAMPLE_S)
        assert process.stdout is not None
        answer = process.stdout.read()
    if process.returncode:
        sys.exit(f"the process that encodes ended with {process.returncode}")
    return {**json.loads(answer), "MiB": most / 2**20}


def pss_bytes(process: int) -> int:
    """Proportional set size: of memory that several processes share, each has its part."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--level", choices=("auto", "highest"), default="auto")
    parser.add_argument("--mode", choices=("here", "apart"), help=argparse.SUPPRESS)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode:
        encode(arguments.mode, arguments.slide, arguments.level, arguments.threads)
        return
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    slide = write_repeated_slide(arguments.output_dir / "apart.tif", side_px=SIDES_PX["1e8"])
    turns: dict[str, list[dict[str, float]]] = {"here": [], "apart": []}
    for turn in range(arguments.repeats):
        for mode in ("here", "apart") if turn % 2 else ("apart", "here"):
            turns[mode].append(measured(mode, slide, arguments.level, arguments.threads))
    slide.unlink()
    for name in turns["here"][0]:
        here, apart = ([turn[name] for turn in turns[mode]] for mode in ("here", "apart"))
        ratios = sorted(there / own for own, there in zip(here, apart, strict=True))
        print(
            f"{name:10} here {statistics.median(here):9.3f}, apart {statistics.median(apart):9.3f}, ratio "
            f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
