"""Attention-based multiple instance learning (Ilse et al. 2018; MONAI's MILModel) on the same embeddings and splits as DSNet.

    python benchmarks/abmil.py --dataset_dir scae --seeds 0 1 2

What a slide label can teach from the patches alone, without their places and without T. The epoch is that of highest validation AUC; the
test slides are used once a seed. Channels are standardised over the training patches, as DSNet does. The interval of the mean is a
percentile bootstrap of the test slides, drawn alike for all seeds.
"""

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import MILModel
from monai.utils import set_determinism
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))

from scripts.encoding.embedding_file import read_embedding
from scripts.evaluation.bootstrap import resample_weights
from scripts.evaluation.metrics import weighted_metrics
from scripts.slides.table import class_names, label_index, read_slides

WIDTH = 128
SLIDES_A_STEP = 8

Bags = list[tuple[Tensor, int]]  # features (N, C) of a slide, its label


def read_bags(dataset: Path) -> dict[str, Bags]:
    """Read the slides of two classes by split, standardised by the training patches."""
    rows = read_slides(dataset / "slides.csv")
    names = class_names(rows)
    if len(names) != 2:
        sys.exit(f"{dataset}: {len(names)} classes, expected 2")
    bags: dict[str, Bags] = {"train": [], "val": [], "test": []}
    for row in rows:
        features = read_embedding(dataset / f"{row.slide_id}.h5").features
        bags[str(row.split)].append((torch.from_numpy(features.astype(np.float32)), label_index(row, names)))
    patches = torch.cat([features for features, _ in bags["train"]])
    mean, deviation = patches.mean(0), patches.std(0).clamp(min=1e-6)
    return {split: [((x - mean) / deviation, label) for x, label in part] for split, part in bags.items()}


@torch.inference_mode()
def scores(model: nn.Module, bags: Bags) -> NDArray[np.float64]:
    """Return P(second class) of every slide."""
    model.eval()
    return np.array([torch.sigmoid(model(x[None, :, :, None, None])).item() for x, _ in bags])


def train(bags: dict[str, Bags], *, seed: int, epochs: int, rate: float) -> tuple[nn.Module, float]:
    """Train; return the model of the best epoch and its validation AUC."""
    set_determinism(seed)
    channels = bags["train"][0][0].shape[1]
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(channels, WIDTH), nn.ReLU())
    model = MILModel(1, mil_mode="att", backbone=backbone, backbone_num_features=WIDTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    best, best_auc = copy.deepcopy(model), -1.0
    for _ in range(epochs):
        model.train()
        for steps in torch.randperm(len(bags["train"])).split(SLIDES_A_STEP):
            optimizer.zero_grad()
            for index in steps.tolist():
                features, label = bags["train"][index]
                logit = model(features[None, :, :, None, None])[0, 0]
                loss = nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor(float(label)))
                (loss / len(steps)).backward()
            optimizer.step()
        auc = float(roc_auc_score([label for _, label in bags["val"]], scores(model, bags["val"])))
        if auc > best_auc:
            best, best_auc = copy.deepcopy(model), auc
    return best, best_auc


def main() -> None:
    """Run the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="slides.csv and embeddings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max_epochs", type=int, default=30)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    arguments = parser.parse_args()
    bags = read_bags(arguments.dataset_dir)
    labels = np.array([label for _, label in bags["test"]])
    weights = resample_weights(len(labels), resamples=2000, seed=0)
    aucs, resampled = [], []
    print("| seed | validation AUC | test AUC |\n|---|---|---|", flush=True)
    for seed in arguments.seeds:
        model, validation = train(bags, seed=seed, epochs=arguments.max_epochs, rate=arguments.learning_rate)
        p = scores(model, bags["test"])
        aucs.append(roc_auc_score(labels, p))
        resampled.append(weighted_metrics(labels, np.stack([1 - p, p], axis=1), weights, threshold=0.5)["auc"])
        print(f"| {seed} | {validation:.3f} | {aucs[-1]:.3f} |", flush=True)
    low, high = np.nanpercentile(np.mean(resampled, axis=0), (2.5, 97.5))
    deviation = np.std(aucs, ddof=1) if len(aucs) > 1 else float("nan")
    print(f"| mean | | {np.mean(aucs):.3f} ({low:.3f}-{high:.3f}; deviation over seeds {deviation:.3f}) |")


if __name__ == "__main__":
    main()
