"""How fast Transformation is against its physical limits and against what users would pick instead: one run, one table.

    python benchmarks/transformation.py --output_dir bench                   # about 15 minutes on two cores; also: make bench
    python benchmarks/transformation.py --output_dir bench --sections speed  # or memory, workers

Slides are generated (half of each is tissue). Every figure is a median over ``--repeats`` turns in which all that is compared is
measured once, one after the other; ``results.json`` keeps every turn. In patches of 64 um a second:

raw        tiles of the level under the tissue, decoded by cuCIM's batched ``read_region`` (its best batch size) and not looked at
reader     the same tiles as patches, by ``SlideReader.iter_patches``
encoder    patches in memory to vectors, resizing included, by each engine; network: the same from patches of 112 px, which need none
end to end slide to embedding file: tissue mask, reading, encoding, thumbnail, writing; networks are built before
CLAM       OpenSlide, 256 px of level 0 in a DataLoader, ResNet-50 up to its third block (monai), float32, eager
MONAI      reading alone: ``SlidingPatchWSIDataset`` on cuCIM in a DataLoader, 256 px of level 0, against reader at level 0
memory     peak resident memory of an encoding process, whatever the size of the slide
workers    the same slides by 1, 2 and 4 Dask workers of one thread each, once they are up, each worker kept on one core
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

import numpy as np
import torch

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from peers import clam_patches, matrix_product_flops, monai_patches
from repeated_slide import write_repeated_slide

from scripts.common.files import write_json
from scripts.encoding.embed import embed_slide
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.pipeline import map_ahead
from scripts.encoding.prepared import PreparedSlide, plan_of, prepare_slide
from scripts.encoding.settings import EncodingSettings
from scripts.encoding.store import read_attributes
from scripts.scae.network import SCAE
from scripts.slides.reader import open_slide
from scripts.slides.sweep import tiles_in_order
from scripts.slides.table import SlideRow

SIDES_PX = {"1e8": 9984, "1e9": 31744, "1e10": 99840}
FLOPS_PER_PATCH = 0.141e9
PAPER_MS = 44.1  # network path a 1e8 pixels on an RTX 2080 (V-A)
BATCH = 64
RAW_BATCH = 16
SLIDES = 24  # of section workers
ON_CORE = "import os\nfor task in os.listdir('/proc/self/task'): os.sched_setaffinity(int(task), {{{core}}})"
NETWORK_PX = SCAE.input_px


class RandomEncoder(torch.nn.Module):
    """S-CAE's encoder with random weights and a mask that fires at a tenth of the places."""

    input_px, channels = SCAE.input_px, 128

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scae = SCAE().train()
        with torch.no_grad():
            self.scae.decompose(torch.rand(8, 3, 112, 112))
        self.eval()

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Encode patches."""
        return self.scae.encode(patches)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def exhaust(items: Iterable[object]) -> None:
    """Draw all items."""
    for _ in items:
        pass


class Case:
    """One slide at one reading level."""

    def __init__(self, path: Path, read_level: str, threads: int) -> None:
        self.row = SlideRow(path.stem, path)
        self.settings = EncodingSettings(read_level=read_level)
        self.threads = threads
        with open_slide(path) as reader:
            self.prepared: PreparedSlide = prepare_slide(
                reader, plan_of(reader, self.row, self.settings), self.settings
            )
        self.patches = len(self.prepared.grid_yx)
        self.size = (self.prepared.plan.read_px,) * 2

    def raw(self) -> None:
        """Decode the tiles under the tissue, as fast as cuCIM can."""
        from cucim import CuImage

        image, level = CuImage(str(self.row.path)), self.prepared.plan.level
        with open_slide(self.row.path) as reader:
            corners = np.rint(self.prepared.coords_xy_px / reader.level_downsamples[level]).astype(np.int64)
            tile, size = reader.tile_sizes_xy_px[level], reader.level_sizes_xy_px[level]
            tiles = [corner for corner, _ in tiles_in_order(corners, self.size, tile, size)]
            downsample = reader.level_downsamples[level]
        self.tiles = len(tiles)
        locations = [(int(x * downsample), int(y * downsample)) for x, y in tiles]
        self.raw_s = seconds(
            lambda: exhaust(
                np.asarray(batch)
                for batch in image.read_region(
                    location=locations, size=tile, level=level, batch_size=RAW_BATCH, num_workers=self.threads
                )
            )
        )

    def reader_s(self, limit: int | None = None) -> float:
        """Time the reading of the patches from an open slide."""
        with open_slide(self.row.path, num_workers=self.threads) as reader:
            batches = reader.iter_patches(
                self.prepared.coords_xy_px[:limit],
                size_xy_px=self.size,
                level=self.prepared.plan.level,
                batch_size=BATCH,
            )
            return seconds(lambda: exhaust(batches))

    def in_memory(self, count: int) -> list[np.ndarray]:
        """Batches to encode again and again."""
        with open_slide(self.row.path, num_workers=self.threads) as reader:
            coords = self.prepared.coords_xy_px
            batches = reader.iter_patches(
                coords, size_xy_px=self.size, level=self.prepared.plan.level, batch_size=BATCH
            )
            return [batch.copy() for batch in islice(batches, count)]

    def end_to_end(self, encoder: NamedEncoder, folder: Path) -> Path:
        """Write the embedding file."""
        path = folder / f"{self.row.slide_id}.h5"
        patches = embed_slide(self.row, path, encoder=encoder, settings=self.settings, num_workers=self.threads)
        if patches != self.patches:
            raise RuntimeError(f"{patches} patches were written, {self.patches} expected")
        return path


def encoders(threads: int) -> dict[str, NamedEncoder]:
    """Every engine that is installed."""
    torch.set_num_threads(threads)
    made = {}
    for engine, precision in (
        ("torch", "float32"),
        ("torch", "bfloat16"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
    ):
        try:
            made[f"{engine} {precision}"] = NamedEncoder(
                RandomEncoder(), device=torch.device("cpu"), engine=engine, precision=precision, batch_size=BATCH
            )
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
    return made


def encode_all(encoder: NamedEncoder, batches: list[np.ndarray], turns: int) -> None:
    """Encode batches in memory with as many threads as end to end uses."""
    exhaust(map_ahead(encoder.encode, (batch for _ in range(turns) for batch in batches), threads=encoder.streams))


def speed(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Section "speed"."""
    slide = arguments.slide or write_repeated_slide(folder / "speed.tif", side_px=SIDES_PX["1e9"] // 2 // 256 * 256)
    cases = {level: Case(slide, level, arguments.threads) for level in ("auto", "highest")}
    made = encoders(arguments.threads)
    turns: dict[str, list[float]] = {}

    def note(name: str, rate: float) -> None:
        turns.setdefault(name, []).append(rate)
        print(f"{name}: {rate:.0f}", file=sys.stderr, flush=True)

    sizes: dict[str, float] = {}
    for _ in range(arguments.repeats):
        note("matrix product GFLOP/s", matrix_product_flops() / 1e9)
        for level, case in cases.items():
            case.raw()
            note(f"raw tiles, {level}", case.tiles / case.raw_s)
            note(f"raw, {level}", case.patches / case.raw_s)
            note(f"reader, {level}", case.patches / case.reader_s())
            batches = case.in_memory(16)
            count = sum(len(batch) for batch in batches)
            for name, encoder in made.items():
                repeat = 4 if "bfloat16" in name else 2
                note(f"encoder {name}, {level}", repeat * count / seconds(lambda: encode_all(encoder, batches, repeat)))
                if level == "auto":
                    cut = [np.ascontiguousarray(batch[:, :NETWORK_PX, :NETWORK_PX]) for batch in batches]
                    note(f"network {name}", repeat * count / seconds(lambda: encode_all(encoder, cut, repeat)))
                elapsed = seconds(lambda: sizes.update(bytes_out=case.end_to_end(encoder, folder).stat().st_size))
                note(f"end to end {name}, {level}", case.patches / elapsed)
        count = min(arguments.clam_patches, cases["highest"].patches)
        coords = cases["highest"].prepared.coords_xy_px
        note("CLAM recipe", count / seconds(lambda: clam_patches(slide, coords[:count], workers=arguments.threads)))
        count = min(4096, cases["highest"].patches)
        note("MONAI reading", count / seconds(lambda: monai_patches(slide, coords[:count], workers=arguments.threads)))
        note("reader, highest, same patches", count / cases["highest"].reader_s(count))
    attributes = read_attributes(folder / f"{slide.stem}.h5")
    width, height = (int(side) for side in attributes["slide_size_xy_px"])
    pixels_1e8 = width * height / 1e8
    sizes.update(
        bytes_in=slide.stat().st_size,
        pixel_bytes=3 * width * height,
        ratio_of_formula=float(attributes["compression_ratio"]),
        ratio_of_matrices=float(attributes["compression_ratio_bytes"]),
        slide_1e8_px=pixels_1e8,
        patches=cases["auto"].patches,
    )
    return {"turns": turns, "sizes": sizes}


def memory(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Section "memory": each slide is encoded by a process of its own."""
    found = {}
    for name in arguments.pixels:
        slide = write_repeated_slide(folder / f"{name}.tif", side_px=SIDES_PX[name])
        command = [sys.executable, __file__, "--encode", str(slide), "--threads", str(arguments.threads)]
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
            row, Path(folder) / "a.h5", encoder=encoder, settings=EncodingSettings(), num_workers=threads
        )
        elapsed = time.perf_counter() - start
    print(json.dumps({"seconds": elapsed, "patches": patches, "peak_bytes": peak_bytes(), "engine": encoder.engine}))


def peak_bytes() -> int:
    """Most memory that this process ever held; getrusage would count its parent's too."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell the peak of a process' memory")


def workers(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Section "workers": seconds for the same slides, from the first task to the last, on workers that are up."""
    from distributed import Client, LocalCluster

    from scripts.encoding.cluster import DaskCluster
    from scripts.encoding.run import encode_slides

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
                cluster = DaskCluster(address=running.scheduler_address)
                options = {"cluster": cluster, "engine": "auto", "num_workers": 1, "resume": False}
                for turn in range(2 * count):  # every worker builds its encoder before the clock runs
                    encode_slides(warm, folder / f"warm{turn}", RandomEncoder, **options)
                elapsed = seconds(lambda: encode_slides(scans, folder / f"out{count}", RandomEncoder, **options))
            found.setdefault(str(count), []).append(elapsed)
            print(f"{count} workers: {elapsed:.1f} s", file=sys.stderr, flush=True)
    return {"seconds": found, "slides": SLIDES}


def machine(threads: int) -> dict[str, object]:
    """What the figures belong to."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    versions = {}
    for name in ("torch", "monai", "cucim-cu13", "cucim-cu12", "openslide-python", "openvino", "dask", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": model,
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def report(results: dict[str, dict]) -> str:
    """Make the table out of ``results``."""
    lines = ["| what | figure | bar |", "|---|---|---|"]

    def add(what: str, figure: str, bar: str = "") -> None:
        lines.append(f"| {what} | {figure} | {bar} |")

    def judged(value: float, bar: float, *, least: bool = True) -> str:
        met = value >= bar if least else value <= bar
        return f"{'>=' if least else '<='} {bar:g}: {'met' if met else 'NOT met'}"

    if "speed" in results:
        rates = {name: statistics.median(turns) for name, turns in results["speed"]["turns"].items()}
        sizes = results["speed"]["sizes"]
        for name, rate in rates.items():
            add(name, f"{rate:,.0f}" + ("" if "GFLOP" in name else " tiles/s" if "tiles" in name else " patches/s"))
        engine = "openvino" if "encoder openvino float32, auto" in rates else "torch"
        for level in ("auto", "highest"):
            share = rates[f"reader, {level}"] / rates[f"raw, {level}"]
            add(f"reader / raw, {level}", f"{share:.2f}", judged(share, 0.9))
            for name in [f"{engine} float32", "torch float32"] if engine != "torch" else ["torch float32"]:
                slower = min(rates[f"reader, {level}"], rates[f"encoder {name}, {level}"])
                ratio = slower / rates[f"end to end {name}, {level}"]
                add(
                    f"end to end / slower of reader and encoder, {name}, {level}",
                    f"{ratio:.2f}",
                    judged(ratio, 1.15, least=False),
                )
        ratio = rates[f"end to end {engine} float32, auto"] / rates["CLAM recipe"]
        add(f"end to end / CLAM recipe, {engine} float32, auto", f"{ratio:.0f}", judged(ratio, 60))
        ratio = rates["reader, highest, same patches"] / rates["MONAI reading"]
        add("reader / MONAI reading, level 0", f"{ratio:.1f}", judged(ratio, 2.5))
        for what in (f"network {engine} float32", f"encoder {engine} float32, auto"):
            share = rates[what] * FLOPS_PER_PATCH / 1e9 / rates["matrix product GFLOP/s"]
            add(f"{what}, share of the matrix product", f"{share:.2f}", judged(share, 0.5))
        per = 1000 * sizes["patches"] / sizes["slide_1e8_px"]
        for what, name in (
            ("network", f"network {engine} float32"),
            ("end to end", f"end to end {engine} float32, auto"),
        ):
            add(f"{what}, ms a 1e8 pixels (paper, network on a GPU: {PAPER_MS})", f"{per / rates[name]:,.0f}")
        add("bytes in / of pixels / out", f"{sizes['bytes_in']:,} / {sizes['pixel_bytes']:,} / {sizes['bytes_out']:,}")
        add(
            "pixels / file",
            f"{sizes['pixel_bytes'] / sizes['bytes_out']:.0f}",
            f"paper's formula: {sizes['ratio_of_formula']:.1f}",
        )
    if "memory" in results:
        peaks = {name: entry["peak_bytes"] for name, entry in results["memory"].items()}
        for name, entry in results["memory"].items():
            rate = entry["patches"] / entry["seconds"]
            per = 1000 * entry["seconds"] / (SIDES_PX[name] ** 2 / 1e8)
            add(f"{name} pixels", f"{entry['patches']:,} patches, {rate:,.0f} patches/s, {per:,.0f} ms a 1e8 pixels")
            add(
                f"peak memory, {name} pixels",
                f"{peaks[name] / 2**20:,.0f} MiB",
                judged(peaks[name] / 2**30, 3, least=False),
            )
        if {"1e9", "1e10"} <= set(peaks):
            growth = peaks["1e10"] / peaks["1e9"]
            add("peak memory, 1e10 / 1e9 pixels", f"{growth:.2f}", judged(growth, 1.2, least=False))
    if "workers" in results:
        taken = {count: statistics.median(turns) for count, turns in results["workers"]["seconds"].items()}
        for count, elapsed in taken.items():
            add(f"{count} workers, {results['workers']['slides']} slides", f"{elapsed:.1f} s")
        gain = taken["1"] / taken["2"]
        add("2 workers / 1 worker", f"{gain:.2f}", judged(gain, 1.7))
    return "\n".join(lines)


def main() -> None:
    """Run the sections, write results.json and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("bench"))
    parser.add_argument(
        "--sections", nargs="+", choices=("speed", "memory", "workers"), default=("speed", "memory", "workers")
    )
    parser.add_argument("--slide", type=Path, help="for section speed, instead of the generated one")
    parser.add_argument("--pixels", nargs="+", choices=tuple(SIDES_PX), default=tuple(SIDES_PX))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clam_patches", type=int, default=256)
    parser.add_argument("--encode", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.encode:
        encode_and_tell(arguments.encode, arguments.threads)
        return
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        with tempfile.TemporaryDirectory(dir=arguments.output_dir) as folder:
            section = {"speed": speed, "memory": memory, "workers": workers}[arguments.sections[0]]
            write_json(arguments.part, section(arguments, Path(folder)))
        return
    results = {"machine": machine(arguments.threads)}
    for name in arguments.sections:  # a process each, so that none inherits threads or memory
        part = arguments.output_dir / f"{name}.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--sections", name, "--part", str(part)]
        subprocess.run(command, check=True)
        results[name] = json.loads(part.read_text(encoding="utf-8"))
        part.unlink()
        write_json(arguments.output_dir / "results.json", results)
    print(report(results))


if __name__ == "__main__":
    main()
