"""What each stage costs before and beside its work: processor seconds of whole commands on the smallest slide set.

    python benchmarks/cold_start.py --output_dir bench/cold
    python benchmarks/cold_start.py --output_dir bench/cold --checkout ../before --repeats 5

Each command runs in a process of its own, and the processes that it starts count too (user and system time). ``import monai.bundle`` is
what every command of MONAI pays before it reads a config. ``--checkout`` names another working tree, for a comparison; the interpreter is
that of this process. Printed are a table and, for ``--imports STAGE``, the packages that took longest to import there.
"""

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages import REPO, command_of

MOST_PACKAGES = 15
_IMPORTED = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \| ( *)(\S+)")


def processor_seconds(command: Sequence[object], cwd: Path) -> tuple[float, str]:
    """Run a command; return the processor seconds of it and its children, and what it wrote to the error stream."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def commands(checkout: Path, folder: Path) -> dict[str, list[str]]:
    """Words after the interpreter by the name of their stage, each of which finds what those before it have left in ``folder``."""
    stage = partial(command_of, checkout=checkout)
    encoder, model = folder / "models" / "scae.pt", folder / "models" / "model.pt"
    slides, slide, on_cpu = folder / "slides/slides.csv", folder / "slides/slides/test_000.tif", {"device": "cpu"}
    encode = {"encoder": encoder, **on_cpu}
    made = {"dataset_dir": folder / "embeddings", "model": model, **on_cpu}
    train = {"max_epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
    return {
        "import monai.bundle": ["-c", "import monai.bundle"],
        "help": [*stage("inference", "inference.yaml"), "--help"],
        "sampling": stage(
            "sampling",
            "sample.yaml",
            slides=slides,
            output_dir=folder / "patches",
            **{"draw#patches_per_slide": 8, "draw#rich_share": 0},
        ),
        "training of the S-CAE": stage(
            "training",
            "train_scae.yaml",
            dataset_dir=folder / "patches",
            output_dir=folder / "scae",
            max_epochs=1,
            **encode,
        ),
        "encoding, 8 slides": stage(
            "encoding", "encode.yaml", slides=slides, output_dir=folder / "embeddings", **encode
        ),
        "training of DSNet": stage("training", "train.yaml", output_dir=folder / "log", **train, **made),
        "evaluation": stage("evaluating", "train.yaml", "evaluate.yaml", output_dir=folder / "evaluation", **made),
        "inference, 1 slide": stage(
            "inference",
            "inference.yaml",
            slides=slide,
            output_dir=folder / "predictions",
            model=model,
            **encode,
        ),
        "inference, 1 embedding, no heat map": stage(
            "inference",
            "inference.yaml",
            split="test",
            output_dir=folder / "scores",
            heat_maps="false",
            **made,
        ),
        "reporting": stage(
            "reporting",
            "report.yaml",
            predictions_dir=folder / "predictions",
            evaluation_dir=folder / "evaluation",
            slides=slides,
            output_dir=folder / "report",
        ),
    }


def slowest_imports(errors: str) -> list[str]:
    """Lines of ``-X importtime`` for the packages outside the standard library that took longest, with what they import."""
    found: dict[str, int] = {}
    for _, whole_us, _, name in _IMPORTED.findall(errors):
        if name.partition(".")[0] not in sys.stdlib_module_names:
            found[name] = max(found.get(name, 0), int(whole_us))
    slowest = sorted(found.items(), key=lambda item: -item[1])[:MOST_PACKAGES]
    return [f"{us / 1e6:8.2f} s  {name}" for name, us in slowest]


def measure(
    checkout: Path, folder: Path, repeats: int, *, names: Sequence[str], imports: str | None
) -> dict[str, list[float]]:
    """Run the commands ``names``, or all of them, ``repeats`` times from nothing, and return the processor seconds of each."""
    taken: dict[str, list[float]] = {}
    make = "import sys; from scripts.slides.synthetic import write_tiny_slide_set as make; make(sys.argv[1])"
    for _ in range(repeats):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        processor_seconds([sys.executable, "-c", make, folder / "slides"], checkout / "bundle")
        for name, words in commands(checkout, folder).items():
            if names and name not in names:
                continue
            timed = ["-X", "importtime"] if name == imports else []
            seconds, errors = processor_seconds([sys.executable, *timed, *words], folder)
            taken.setdefault(name, []).append(seconds)
            if timed:
                print(*slowest_imports(errors), sep="\n")
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="is emptied")
    parser.add_argument("--checkout", type=Path, default=REPO)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commands", nargs="*", default=[], help="names of the table; default: all")
    parser.add_argument("--imports", metavar="STAGE", help="a name of the table, such as 'inference, 1 slide'")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # waiting threads would count as work
    taken = measure(
        arguments.checkout.resolve(),
        arguments.output_dir.resolve(),
        arguments.repeats,
        names=arguments.commands,
        imports=arguments.imports,
    )
    print("| command | processor seconds | least to most |\n|---|---|---|")
    for name, seconds in taken.items():
        print(f"| {name} | {statistics.median(seconds):.1f} | {min(seconds):.1f} to {max(seconds):.1f} |")


if __name__ == "__main__":
    main()
