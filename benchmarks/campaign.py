"""A campaign of damaged slides: encode them beside undamaged ones, and count what became of each.

    python benchmarks/campaign.py --data ../shared/data --output_dir campaign --slides 1000 --seed 0

Regions of real slides are written as tiled TIFFs of every kind (benchmarks/campaign_slides.py) and damaged at random, by the seed
(benchmarks/tiff_mutations.py). The command ``encoding`` runs over folders of them, as a user's does. Counted:

    right          the vectors of the undamaged slide
    clear          failed, with a message
    unnoticeable   other vectors, and nothing in the file says so: a strict reading of all directories and tiles by other libraries
                   finds no fault (benchmarks/campaign_oracle.py)
    wrong          other vectors, or empty, although something in the file said so
    hang           more than a minute for one slide
    lost           a slide without a row in the manifest, or an undamaged slide that is not done as it is alone
    traceback      a run that printed one
    crash          a run that ended in another way than with the exit codes 0 and 1

Every one of the last five is a fault: exit code 1. ``campaign.csv`` has a row per slide, ``campaign.json`` the counts.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

import h5py
import numpy as np
import torch
from campaign_oracle import complaint
from campaign_slides import PATCH_PX, TILE_PX, UNREAD_WIDTH, write_slides
from tiff_bytes import Tiff
from tiff_mutations import MUTATIONS

from scripts.scae.network import SCAE

FAULTS = ("wrong", "hang", "lost", "traceback", "crash")
OUTCOMES = ("right", "clear", "unnoticeable", *FAULTS)
HANG_S = 60.0
PER_RUN = 50
ENCODE = [
    sys.executable, "-m", "monai.bundle", "run", "encoding", "--bundle_root", str(REPO / "bundle"),
    "--config_file", str(REPO / "bundle/configs/encode.yaml"), "--engine", "torch", "--device", "cpu",
]  # fmt: skip


@dataclass(frozen=True)
class Damaged:
    """One damaged slide and what became of it."""

    name: str
    source: str
    kind: str
    what: str
    outcome: str = ""
    said: str = ""


def main() -> None:
    """Run the campaign and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real slides")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the slides of every run, not only those with a fault")
    arguments = parser.parse_args()
    found = campaign(arguments.data, arguments.output_dir, arguments.slides, arguments.seed, keep=arguments.keep)
    counts = Counter(slide.outcome for slide in found)
    report = {"slides": len(found), "seed": arguments.seed, "counts": {name: counts[name] for name in OUTCOMES}}
    (arguments.output_dir / "campaign.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report))
    sys.exit(any(counts[name] for name in FAULTS))


def campaign(data: Path, output: Path, slides: int, seed: int, *, keep: bool) -> list[Damaged]:
    """Damage and encode slides in runs of ``PER_RUN``; write the table after every run."""
    output.mkdir(parents=True, exist_ok=True)
    weights = output / "scae.pt"
    torch.manual_seed(0)
    torch.save(SCAE().state_dict(), weights)
    whole = write_slides(data, output / "whole")
    run(output / "whole", output / "whole_encoded", weights)
    reference = {name: features(output / "whole_encoded" / f"{stem(name)}.h5") for name in whole}
    rng = Random(seed)
    found: list[Damaged] = []
    for number in range(-(-slides // PER_RUN)):
        folder = output / f"run{number}"
        made = [damage(whole, folder, rng, index) for index in range(min(PER_RUN, slides - number * PER_RUN))]
        good = rng.choice(sorted(whole))
        shutil.copy(whole[good], folder / f"m{good}")  # between the damaged ones, in the order of names
        found += judge(made, good, folder, weights, reference)
        with open(output / "campaign.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Damaged)])
            writer.writeheader()
            writer.writerows(asdict(slide) for slide in found)
        print(f"run {number}: {dict(Counter(slide.outcome for slide in found))}", flush=True)
        clean(folder, found[-len(made) - 1 :], keep=keep)
    return found


def damage(whole: dict[str, Path], folder: Path, rng: Random, index: int) -> Damaged:
    """Write one damaged slide."""
    folder.mkdir(exist_ok=True)
    source = rng.choice(sorted(whole))
    mutation = rng.choice(MUTATIONS)
    tiff = Tiff(whole[source].read_bytes())
    what = mutation(tiff, rng)
    name = f"{rng.choice('az')}{index:02d}_{mutation.__name__}{source[source.index('.') :]}"
    (folder / name).write_bytes(tiff.content)
    return Damaged(f"{folder.name}/{name}", source, mutation.__name__, what)


def run(slides: Path, output: Path, weights: Path) -> subprocess.CompletedProcess[str]:
    """Encode a folder as a user does; a run that hangs as a whole ends after a minute per slide."""
    command = [*ENCODE, "--slides", str(slides), "--output_dir", str(output), "--encoder", str(weights)]
    limit_s = HANG_S * len(list(slides.iterdir()))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=limit_s, env=environment, check=False
    )


def judge(
    made: list[Damaged], good: str, folder: Path, weights: Path, reference: dict[str, np.ndarray]
) -> list[Damaged]:
    """Encode a folder and say what became of each of its slides."""
    encoded = folder.with_name(f"{folder.name}_encoded")
    ended = None
    try:
        ended = run(folder, encoded, weights)
        (encoded / "log.txt").write_text(ended.stdout + ended.stderr, encoding="utf-8")
    except subprocess.TimeoutExpired:
        pass
    found = []
    rows = {Path(row["slide"]).name: row for row in manifest(encoded / "manifest.csv")}
    for slide in [*made, Damaged(f"{folder.name}/m{good}", good, "whole", "")]:
        row = rows.get(Path(slide.name).name)
        outcome = "lost" if row is None else outcome_of(slide, folder, encoded, row, reference[slide.source])
        found.append(Damaged(slide.name, slide.source, slide.kind, slide.what, outcome, row["error"] if row else ""))
    run_outcome = "hang" if ended is None else "crash" if ended.returncode not in (0, 1) else ""
    if ended is not None and "Traceback (most recent call last)" in ended.stdout + ended.stderr:
        run_outcome = run_outcome or "traceback"
    if run_outcome:
        found.append(Damaged(folder.name, "", "run", "", run_outcome, (ended.stderr if ended else "")[-300:]))
    return found


def outcome_of(slide: Damaged, folder: Path, encoded: Path, row: dict[str, str], wanted: np.ndarray) -> str:
    """Judge one row of the manifest."""
    if float(row["seconds"]) > HANG_S:
        return "hang"
    if row["status"] == "failed":
        return "lost" if slide.kind == "whole" else "clear" if row["error"] else "wrong"
    got = None
    if row["status"] == "done":
        got = features(encoded / row["output"])
        if got.shape == wanted.shape and np.array_equal(got, wanted):
            return "right"
    if slide.kind == "whole":
        return "lost"
    read = tiles_under(wanted) | (set() if got is None else tiles_under(got))
    said = complaint(folder / Path(slide.name).name, unread_width=UNREAD_WIDTH, read=read)
    return "wrong" if said else "unnoticeable"


def tiles_under(vectors: np.ndarray) -> set[tuple[int, int]]:
    """Column and row of the level-0 tiles on which the patches of :func:`features` lie."""
    ends = (vectors[:, None, :2] + [[0, 0], [PATCH_PX - 1, PATCH_PX - 1]]) // TILE_PX
    return {tuple(corner) for corner in ends.reshape(-1, 2).astype(int).tolist()}


def manifest(path: Path) -> list[dict[str, str]]:
    """The rows of a manifest, none where there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def features(path: Path) -> np.ndarray:
    """The vectors of an embedding file with their corners: what must not differ."""
    with h5py.File(path) as file:
        values: np.ndarray = np.hstack((file["coords"][()].astype(np.float64), file["features"][()].astype(np.float64)))
    return values


def stem(name: str) -> str:
    """The id of a slide."""
    return Path(name).stem


def clean(folder: Path, found: list[Damaged], *, keep: bool) -> None:
    """Remove the slides of a run and its embeddings, except what a fault needs."""
    if keep or any(slide.kind == "run" for slide in found):
        return
    wanted = {Path(slide.name).name for slide in found if slide.outcome in FAULTS}
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
    if not wanted:
        shutil.rmtree(folder)
        shutil.rmtree(folder.with_name(f"{folder.name}_encoded"))


if __name__ == "__main__":
    main()
