"""How much of the lesion v holds: a linear probe on single patches, trained with the lesion masks of the training slides.

    python benchmarks/probe.py --dataset_dir embeddings --masks mosaics/masks --parts 0:96 96:128

An upper bound for what a slide-level method can find with a linear view of single patches; the masks are used here and nowhere else.
Prints the AUC over the patches of the test slides for all channels and for each part.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))

from scripts.encoding.embedding_file import read_embedding
from scripts.slides.lesion_mask import find_masks, lesion_cells
from scripts.slides.table import read_slides


def patches(dataset: Path, masks: Path, split: str, *, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and lesion labels of up to ``most`` patches per slide of each kind."""
    rng = np.random.default_rng(seed)
    features, labels = [], []
    table = dataset / "slides.csv"
    rows = [row for row in read_slides(table) if row.split == split]
    mask_of = find_masks(rows, table, masks)
    for row in rows:
        embedding = read_embedding(dataset / f"{row.slide_id}.h5")
        cells = lesion_cells(mask_of[row.slide_id], embedding.grid, slide=row.path)
        lesion = cells[embedding.grid_yx[:, 0], embedding.grid_yx[:, 1]]
        for kind in (False, True):
            chosen = rng.permutation(np.flatnonzero(lesion == kind))[:most]
            features.append(embedding.features[chosen])
            labels.append(np.full(len(chosen), kind))
    return np.concatenate(features), np.concatenate(labels)


def patch_auc(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """Fit a linear probe on standardised features and return its AUC on others."""
    scaler = StandardScaler().fit(x)
    probe = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(x), y)
    return float(roc_auc_score(y_test, probe.decision_function(scaler.transform(x_test))))


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True, help="<slide_id>.png, lesions above 0")
    parser.add_argument("--parts", nargs="*", default=[], help="channel ranges, such as 0:96")
    parser.add_argument("--most", type=int, default=40, help="patches per slide and kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = (
        patches(arguments.dataset_dir, arguments.masks, split, most=arguments.most, seed=arguments.seed)
        for split in ("train", "test")
    )
    print("| channels | patch AUC | median deviation of a channel |\n|---|---|---|")
    for part in ["all", *arguments.parts]:
        columns = slice(None) if part == "all" else slice(*(int(end) for end in part.split(":")))
        auc = patch_auc(x[:, columns], y, x_test[:, columns], y_test)
        print(f"| {part} | {auc:.3f} | {np.median(x[:, columns].std(axis=0)):.4f} |")


if __name__ == "__main__":
    main()
