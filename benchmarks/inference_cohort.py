"""Time and memory of the inference of many small slides, with their heat maps, as a command.

    python benchmarks/inference_cohort.py --folder bench/cohort --slides 1000
    python benchmarks/inference_cohort.py --folder bench/cohort --slides 60 --checkouts ../before . --repeats 3

Makes ``--distinct`` slides, of which the others are links, and random weights of S-CAE and DSNet. Printed, as JSON, is of every
checkout, in turn, what each run took:

- ``seconds`` and ``processor_seconds`` per slide, of the command and all that it starts, without those of a command on one slide;
- ``one_slide_processor_s``: those of the command on one slide, of which most is paid before its work;
- ``first_prediction_s``, from the start of the command until the first ``predictions_so_far.csv`` is there (before: ``predictions.csv``);
- ``mib``: the memory of all its processes together (proportional set size, so that what they share counts once), at most, in the tenths
  of the time from the first slide to the end.

The interpreter is that of this process.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from apart import children, pss_bytes
from stages import command_of

from scripts.common.files import sha256_of, write_json
from scripts.dsnet.network import DSNet
from scripts.scae.scae_network import SCAE
from scripts.slides.synthetic import write_slide_set
from scripts.training.model_card import ModelCard, card_path

SAMPLE_S = 0.5
TENTHS = 10
ADDED_LATER = ("projection", "head")  # arguments of the network, at their defaults here, that older checkouts refuse


def write_cohort(folder: Path, slides: int, distinct: int, cells: int) -> None:
    """Write slides ``one`` and ``many``, and weights."""
    made = write_slide_set(folder / "made", {"train": 0, "val": 0, "test": distinct}, seed=0, cells=cells).parent
    for name, count in (("one", 1), ("many", slides)):
        (folder / name).mkdir()
        for index in range(count):
            original = made / "slides" / f"test_{index % distinct:03d}.tif"
            (folder / name / f"slide_{index:05d}.tif").hardlink_to(original)
    torch.manual_seed(0)
    network, model = DSNet(), folder / "model.pt"
    torch.save(SCAE().state_dict(), folder / "scae.pt")
    torch.save({"model": network.state_dict()}, model)
    card = ModelCard(
        class_names=("normal", "tumor"),
        threshold=0.5,
        threshold_from="val",
        encoder=None,
        network={name: value for name, value in network.arguments.items() if name not in ADDED_LATER},
        weights_sha256=sha256_of(model),
    )
    write_json(card_path(model), card.to_json())


def command(checkout: Path, folder: Path, slides: str) -> list[str]:
    """Words of an inference of these slides into ``folder/out``."""
    given = {"slides": folder / slides, "output_dir": folder / "out", "device": "cpu"}
    given |= {"encoder": folder / "scae.pt", "model": folder / "model.pt"}
    return [sys.executable, *command_of("inference", "inference.yaml", checkout=checkout, **given)]


def run(checkout: Path, folder: Path, slides: str) -> dict[str, object]:
    """Run the command from nothing and watch it."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    first, memory = None, []
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command(checkout, folder, slides), cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            if first is None and any((out / name).is_file() for name in ("predictions_so_far.csv", "predictions.csv")):
                first = time.perf_counter() - start
            if (out / "embeddings" / "manifest.csv").is_file():
                with suppress(FileNotFoundError, ProcessLookupError):  # one has ended since
                    memory.append(sum(map(pss_bytes, [process.pid, *children(process.pid)])) / 2**20)
            time.sleep(SAMPLE_S)
    elapsed = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"inference ended with {process.returncode}: {folder / 'log.txt'} says why")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    parts = [memory[len(memory) * part // TENTHS : len(memory) * (part + 1) // TENTHS] for part in range(TENTHS)]
    return {
        "seconds": elapsed,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "first_prediction_s": round(elapsed if first is None else first, 1),
        "mib": [round(max(part)) for part in parts if part],
    }


def per_slide(checkout: Path, folder: Path, slides: int) -> dict[str, object]:
    """What many slides take beyond one."""
    one, many = run(checkout, folder, "one"), run(checkout, folder, "many")
    many["one_slide_processor_s"] = round(one["processor_seconds"], 2)  # type: ignore[call-overload]
    for name in ("seconds", "processor_seconds"):
        many[name] = round((many[name] - one[name]) / (slides - 1), 3)  # type: ignore[operator]
    return many


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="is emptied")
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--distinct", type=int, default=8)
    parser.add_argument("--cells", type=int, default=8, help="side of a slide, in cells of 64 um")
    parser.add_argument("--checkouts", type=Path, nargs="+", default=[REPO])
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # waiting threads would count as work
    folder = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    write_cohort(folder, arguments.slides, arguments.distinct, arguments.cells)
    for _ in range(arguments.repeats):
        for checkout in arguments.checkouts:
            print(
                json.dumps({"checkout": str(checkout)} | per_slide(checkout.resolve(), folder, arguments.slides)),
                flush=True,
            )


if __name__ == "__main__":
    main()
