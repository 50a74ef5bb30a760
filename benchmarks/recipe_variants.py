"""Variants of a recipe for DSNet, compared on training slides that they have not seen: which values a recipe should have.

    python benchmarks/recipe_variants.py nic/slides.csv --train 60 --draws 0 1 --seeds 0 1 --jobs 2 --output_dir search
    python benchmarks/recipe_variants.py nic/slides.csv --train 60 --draws 0 1 --seeds 0 1 --jobs 2 --output_dir search \
        --variants recommended "top_share 0.05"

Of the training slides, ``--train`` are trained on, as many of each class; the epoch is chosen on the validation slides, and the
other training slides judge. The test slides of the table take no part. A draw is another choice of the slides that are trained on.
On generated slides the judging ones are made of the same tiles as the others, which favours what memorises.
Each variant is a change to `recommended.yaml`, or another overlay. Printed and written to ``<output_dir>/recipe_variants.csv`` is
the mean AUC of all trainings, and its difference to that of `recommended`, training by training (same draw, same seed), with the 95 %
t interval of its mean. That interval knows the luck of draws and seeds, but takes draws as independent, which share slides. A run
that was stopped goes on with the same command.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("bundle", "benchmarks")]

from fewer_slides import Rows, fewer
from scipy.stats import t as student

from scripts.ablations.ablating import ablate
from scripts.common.files import write_csv
from scripts.evaluation.metrics import FALLBACK_THRESHOLD, weighted_metrics
from scripts.evaluation.predictions import read_predictions
from scripts.studies.trainings import Trainings

RECOMMENDED = "recommended"
OF_VALIDATION = {"validate#dataloader#batch_size": 8}
"""Faster, and the same figures: slides of equal size need no padding."""
LAST_AUGMENTATION = "train#last_augmentation#transforms"
ATTENTION = {"overlay": "baselines/attention_pooling.yaml"}
NO_JITTER = {f"{LAST_AUGMENTATION}#1#gain": 0.0, f"{LAST_AUGMENTATION}#1#shift": 0.0}
OF_ATTENTION = {"max_epochs": 20, "decay#step_size": 15, "warmup#total_iters": 2}

EIGHT = {"batch_size": 8, "evaluated#share": 0.05}
"""Four times as many slides per step, and weights that follow over as many slides."""

VARIANTS: dict[str, dict[str, Any]] = {
    RECOMMENDED: {},
    "attention pooling": {**ATTENTION, **OF_ATTENTION},
    "attention pooling, batch_size 2": {**ATTENTION, **OF_ATTENTION, "batch_size": 2},
    "batch_size 1, averaging by 0.05": {"batch_size": 1, "evaluated#share": 0.05},
    "batch_size 4, averaging by 0.025": {"batch_size": 4, "evaluated#share": 0.025},
    "batch_size 8, averaging by 0.05": EIGHT,
    "batch_size 8, averaging by 0.05, 40 epochs": {**EIGHT, "max_epochs": 40, "decay#step_size": 30},
    "batch_size 8, averaging by 0.05, no jitter": {**EIGHT, **NO_JITTER},
    "batch_size 8, no averaging": {"batch_size": 8, "evaluated#share": None},
    "averaging by 0.05": {"evaluated#share": 0.05},
    "averaging by 0.05, no jitter": {"evaluated#share": 0.05, **NO_JITTER},
    "no averaging": {"evaluated#share": None},
    "no jitter": NO_JITTER,
    "jitter twice as strong": {f"{LAST_AUGMENTATION}#1#gain": 0.2, f"{LAST_AUGMENTATION}#1#shift": 0.6},
    "no patch dropout": {f"{LAST_AUGMENTATION}#2#most": 0.0},
    "patch dropout 0.6": {f"{LAST_AUGMENTATION}#2#most": 0.6},
    "40 epochs": {"max_epochs": 40, "decay#step_size": 30},
    "learning_rate 3e-4": {"learning_rate": 3e-4},
    "learning_rate 3e-3": {"learning_rate": 3e-3},
    "weight decay 0.1": {"optimizer#weight_decay": 0.1},
    "top_share 0.01": {"network_def#top_share": 0.01},
    "top_share 0.05": {"network_def#top_share": 0.05},
    "no attention branch": {"network_def#attention_branch": False},
    "dropout 0.25": {"network_def#dropout": 0.25},
}
"""What each changes, by id; ``overlay`` is another overlay of train.yaml in place of recommended.yaml."""


def split_anew(rows: Rows, count: int, draw: int) -> Rows:
    """Train on ``count`` of the training slides, and test on the others of them.

    The table's own test slides are left out, and training slides without a label.
    """
    kept = [row for row in rows if row["split"] != "test" and (row["split"] != "train" or row["label"])]
    trained_on = {row["slide"] for row in fewer(kept, count, np.random.default_rng(draw)) if row["split"] == "train"}
    return [
        {**row, "split": "test"} if row["split"] == "train" and row["slide"] not in trained_on else row for row in kept
    ]


def aucs_of(folder: Path, seeds: Sequence[int], draws: Sequence[int], sets: int) -> dict[str, float]:
    """AUC of every run of these draws and seeds on the first ``sets`` tables under ``folder``, by its place there."""
    found = {}
    wanted = [
        f"set{place}/*/set{place}_draw{draw}/full/seed{seed}/predictions.csv"
        for place, draw, seed in product(range(sets), draws, seeds)
    ]
    for path in sorted(path for pattern in wanted for path in folder.glob(pattern)):
        predictions = read_predictions(path).predictions
        labels = np.array([prediction.label for prediction in predictions], dtype=np.int64)
        probabilities = np.array([prediction.probabilities for prediction in predictions])
        every = np.ones((1, len(labels)))
        auc = weighted_metrics(labels, probabilities, every, threshold=FALLBACK_THRESHOLD)["auc"]
        found[str(path.parent.relative_to(folder))] = float(auc[0])
    return found


def record_of(name: str, aucs: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, object]:
    """One row of the table: the mean AUC, and its difference to the reference with a t interval over the runs that both have."""
    record: dict[str, object] = {"variant": name, "runs": len(aucs), "auc": np.mean(list(aucs.values()))}
    record["sd"] = np.std(list(aucs.values()), ddof=1) if len(aucs) > 1 else None
    differences = np.array([aucs[run] - reference[run] for run in aucs if run in reference])
    if name != RECOMMENDED and len(differences) > 1:
        mean, half = differences.mean(), differences.std(ddof=1) / len(differences) ** 0.5
        half *= student.ppf(0.975, len(differences) - 1)
        record |= {"difference": mean, "difference_low": mean - half, "difference_high": mean + half}
    return record


def main() -> None:
    """Train every variant, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "slides", type=Path, nargs="+", help="slides.csv beside its embeddings; of several all runs count"
    )
    parser.add_argument("--train", type=int, default=60, help="training slides of all classes (60)")
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, of one thread each (1)")
    parser.add_argument("--max_epochs", type=int, help="default: those of the recipe")
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    sets = []
    for place, table in enumerate(arguments.slides):
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        tables = [arguments.output_dir / f"set{place}_draw{draw}.csv" for draw in arguments.draws]
        for path, draw in zip(tables, arguments.draws, strict=True):
            write_csv(path, list(rows[0]), split_anew(rows, arguments.train, draw))
        sets.append((table.parent, tables))
    measured: dict[str, dict[str, float]] = {}
    shorter = {} if arguments.max_epochs is None else {"max_epochs": arguments.max_epochs}
    for name in dict.fromkeys([RECOMMENDED, *arguments.variants]):
        given = {**OF_VALIDATION, **VARIANTS[name], **shorter}
        overlay = given.pop("overlay", f"{RECOMMENDED}.yaml")
        folder = arguments.output_dir / name.replace(" ", "_")
        for place, (dataset, tables) in enumerate(sets):
            trainings = Trainings(arguments.seeds, arguments.jobs, more=given)
            ablate(dataset, folder / f"set{place}", trainings, slides=tables, rows=["full"], overlays=[overlay])
        measured[name] = aucs_of(folder, arguments.seeds, arguments.draws, len(sets))
        records = [record_of(variant, aucs, measured[RECOMMENDED]) for variant, aucs in measured.items()]
        columns = ("variant", "runs", "auc", "sd", "difference", "difference_low", "difference_high")
        write_csv(arguments.output_dir / "recipe_variants.csv", columns, records)
    print((arguments.output_dir / "recipe_variants.csv").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
