"""What it costs to read patches from a lower level of the pyramid: cosine similarity of the vectors, and the effect on AUC.

    python benchmarks/read_level.py --highest level0 --auto lower
    python benchmarks/read_level.py --highest level0 --auto lower --models runs/full/seed0/model.pt ...

Both folders hold embeddings of the same slides by the same encoder, one with ``--settings#read_level highest`` and one with ``auto``.
The cosine is taken between the two vectors of a patch: as they are, and after the mean of all patches of level 0 is subtracted, since
vectors of positive numbers point the same way whatever they hold. Of the ``--models``, trained on either folder, each
is tested on the test slides of both.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from stages import run_command

from scripts.encoding.embedding_file import header_of, read_embedding
from scripts.encoding.store import Embedding
from scripts.evaluation.interval import Estimate
from scripts.evaluation.measured import read_metrics

Features = NDArray[np.float64]


def pairs(highest: Path, auto: Path) -> Iterator[tuple[str, Features, Features]]:
    """Yield slide by slide the vectors of the patches that both files hold."""
    for path in sorted(highest.glob("*.h5")):
        levels = [int(header_of(folder / path.name).attributes["read_level"]) for folder in (highest, auto)]
        if levels[0] != 0 or levels[1] == 0:
            sys.exit(f"{path.name}: read from levels {levels}, expected level 0 and a lower one")
        ours, theirs = (read_embedding(folder / path.name) for folder in (highest, auto))
        shared = {place: index for index, place in enumerate(places(theirs))}
        both = [(index, shared[place]) for index, place in enumerate(places(ours)) if place in shared]
        first, second = (list(column) for column in zip(*both, strict=True))
        yield path.stem, ours.features[first].astype(np.float64), theirs.features[second].astype(np.float64)


def places(embedding: Embedding) -> list[tuple[int, int]]:
    """Corners of the patches in level-0 pixels."""
    return [(int(x), int(y)) for x, y in embedding.coords_xy_px]


def cosine(a: Features, b: Features) -> Features:
    """Cosine between the rows of two arrays (N, C), (N,); rows of zeros agree with nothing but each other."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = (np.abs(a).max(axis=1) == 0) & (np.abs(b).max(axis=1) == 0)
    return np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.maximum(norms, 1e-12))


def test_auc(model: Path, dataset: Path) -> Estimate:
    """Evaluate a model on the test slides of a dataset, through the bundle's command."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"dataset_dir": dataset, "model": model, "output_dir": folder}
        run_command("evaluating", "train.yaml", "evaluate.yaml", **given)
        return read_metrics(Path(folder) / "metrics.json", expected="what evaluating writes")["auc"]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--highest", type=Path, required=True, help="embeddings read from level 0")
    parser.add_argument(
        "--auto", type=Path, required=True, help="embeddings of the same slides read from a lower level"
    )
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    slides = list(pairs(arguments.highest, arguments.auto))
    if not slides:
        sys.exit(f"{arguments.highest}: no embeddings, expected those of encode.yaml --settings#read_level highest")
    level0, lower = (np.concatenate([entry[part] for entry in slides]) for part in (1, 2))
    print(f"{len(slides)} slides, {len(level0)} patches in both\n")
    print("| cosine | 5th percentile | median |\n|---|---|---|")
    mean = level0.mean(axis=0)
    for name, shift in (("of v", 0.0), ("of v without the mean v", mean)):
        low, middle = np.percentile(cosine(level0 - shift, lower - shift), (5, 50))
        print(f"| {name} | {low:.4f} | {middle:.4f} |")
    if arguments.models:
        print("\n| model | AUC, level 0 | AUC, lower level |\n|---|---|---|")
    for model in arguments.models:
        found = [test_auc(model, dataset) for dataset in (arguments.highest, arguments.auto)]
        print(
            f"| {model} | "
            + " | ".join(f"{auc.value:.3f} ({auc.ends_in_words() or 'no interval'})" for auc in found)
            + " |"
        )


if __name__ == "__main__":
    main()
