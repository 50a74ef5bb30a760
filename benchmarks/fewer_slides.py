"""Write tables of slides with fewer training slides, for a learning curve: as many of each class, drawn at random.

    python benchmarks/fewer_slides.py nic/slides.csv --train 20 40 80 --output_dir curve

writes curve/train20.csv, curve/train40.csv and curve/train80.csv. A smaller set is part of each larger one. Validation and test slides stay
as they are.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.common.files import write_csv

Rows = list[dict[str, str]]


def fewer(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Keep ``count`` of the training slides, as many of each class, and all others, in the order of the table.

    A training slide without a label is left out.

    Raises:
        ValueError: A class has fewer training slides than its part.
    """
    labels = sorted({row["label"] for row in rows} - {""})
    kept: set[int] = set()
    for label in labels:
        places = [place for place, row in enumerate(rows) if row["split"] == "train" and row["label"] == label]
        if len(labels) * len(places) < count:
            raise ValueError(
                f"class {label} has {len(places)} training slides, expected at least {-(-count // len(labels))}"
            )
        kept |= set(rng.permutation(places)[: count // len(labels)].tolist())
    return [row for place, row in enumerate(rows) if row["split"] != "train" or place in kept]


def main() -> None:
    """Read the table and write one per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path)
    parser.add_argument(
        "--train", type=int, nargs="+", default=[20, 40, 80], help="training slides of all classes (20 40 80)"
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    with open(arguments.slides, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for count in arguments.train:
        path = arguments.output_dir / f"train{count}.csv"
        rng = np.random.default_rng(arguments.seed)  # the same order for every size
        write_csv(path, list(rows[0]), fewer(rows, count, rng))
        print(path)


if __name__ == "__main__":
    main()
