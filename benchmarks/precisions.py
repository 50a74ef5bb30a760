"""What bfloat16 changes: in the vectors, and in the AUC of a model on embeddings of the other precision.

    python benchmarks/precisions.py --float32 data32 --bfloat16 data16
    python benchmarks/precisions.py --float32 data32 --bfloat16 data16 --models runs/full/seed0/model.pt ...

Both folders hold embeddings of the same slides by the same encoder, one with ``--settings#precision float32`` and one with
``bfloat16``. The deviation of a number of v is divided by the spread of its channel: the standard deviation over all patches in
float32. The cosine is taken between the two vectors of a patch: as they are, and after the mean of all patches is subtracted. Of
the ``--models``, trained on either folder, each is tested on the test slides of both.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from read_level import Features, cosine, test_auc

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))

from scripts.encoding.embedding_file import header_of, read_embedding


def vectors(folder: Path, precision: str) -> tuple[list[str], Features]:
    """The names of a folder's embeddings, and all their vectors (N, C), as they say in ``precision``."""
    paths = sorted(folder.glob("*.h5"))
    if not paths:
        sys.exit(f"{folder}: no embeddings, expected those of encode.yaml --settings#precision {precision}")
    for path in paths:
        if header_of(path).precision not in (None, precision):
            sys.exit(f"{path}: encoded in {header_of(path).precision}, expected {precision}")
    return [path.stem for path in paths], np.concatenate(
        [read_embedding(path).features for path in paths], dtype=np.float64
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float32", type=Path, required=True, help="embeddings in float32")
    parser.add_argument("--bfloat16", type=Path, required=True, help="embeddings of the same slides in bfloat16")
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    (names, exact), (others, rounded) = (
        vectors(folder, precision)
        for folder, precision in ((arguments.float32, "float32"), (arguments.bfloat16, "bfloat16"))
    )
    if names != others or exact.shape != rounded.shape:
        sys.exit(f"{arguments.bfloat16}: other slides or patches than {arguments.float32}, expected the same")
    print(f"{len(names)} slides, {len(exact)} patches, {exact.shape[1]} channels\n")
    spread = exact.std(axis=0)
    deviation = np.abs(rounded - exact)[:, spread > 0] / spread[spread > 0]
    print("| deviation / spread of the channel | |\n|---|---|")
    print(f"| mean | {deviation.mean():.4f} |\n| 99th percentile | {np.percentile(deviation, 99):.4f} |")
    print(f"| largest | {deviation.max():.4f} |")
    print(f"| mean of the channel with the largest mean | {deviation.mean(axis=0).max():.4f} |")
    wide = deviation > 1
    print(f"| over 1 | {wide.sum():,} of {wide.size:,} numbers, in {wide.any(axis=0).sum()} channels |")
    print("\n| cosine | lowest | 5th percentile | median |\n|---|---|---|---|")
    for name, shift in (("of v", 0.0), ("of v without the mean v", exact.mean(axis=0))):
        found = cosine(exact - shift, rounded - shift)
        low, middle = np.percentile(found, (5, 50))
        print(f"| {name} | {found.min():.5f} | {low:.5f} | {middle:.5f} |")
    if arguments.models:
        print("\n| model | AUC, float32 | AUC, bfloat16 |\n|---|---|---|")
    for model in arguments.models:
        aucs = [test_auc(model, folder) for folder in (arguments.float32, arguments.bfloat16)]
        told = (f"{auc.value:.4f} ({auc.ends_in_words() or 'no interval'})" for auc in aucs)
        print(f"| {model} | " + " | ".join(told) + " |", flush=True)


if __name__ == "__main__":
    main()
