"""Which class activation map, at which layer, shows lesions best: every method at every layer for trained networks.

    python benchmarks/cam_methods.py --dataset_dir embeddings --masks mosaics/masks --split val --models runs/full/seed*/model.pt

To choose by validation slides: the chosen one is then reported on the test slides once (localise.yaml). Means over networks and slides: hit
rate (correctly called positive slides) with its chance, FROC (all slides), cell AUC (slides with a lesion).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))

from scripts.common.progress import track
from scripts.dsnet.grad_cam import LAYERS, METHODS
from scripts.dsnet.heat_map import HeatMap
from scripts.encoding.store import read_embedding
from scripts.evaluation.calibration import calibrated
from scripts.evaluation.metrics import predicted_classes
from scripts.localisation.inputs import MappedSlide
from scripts.localisation.run import summarise
from scripts.localisation.scores import SlideScores, score_slide
from scripts.slides.lesion_mask import find_masks, lesion_cells
from scripts.training.card import load_model, network_from_card, read_card
from scripts.training.table import EmbeddingTable
from scripts.training.transforms import LoadEmbeddingd, PackMatricesd

FIGURES = ("hit_rate", "froc", "cell_auc")


def score_maps(model: Path, dataset: Path, masks: Path, split: str) -> dict[tuple[str, str], list[SlideScores]]:
    """Score the maps of one network, by method and layer."""
    card = read_card(model)
    network = load_model(network_from_card(card), model, card)
    levels = card["network"]["thumbnail_levels"]
    table = EmbeddingTable(dataset, classes=card["class_names"], levels=levels, channel_range=card["channel_range"])
    rows = {row.slide_id: row for row in table.rows}
    mask_of = find_masks(table.rows, table.source, masks)
    scores: dict[tuple[str, str], list[SlideScores]] = {(method, layer): [] for method in METHODS for layer in LAYERS}
    load, pack = LoadEmbeddingd(), PackMatricesd()
    items = table.items(split)
    for item in track(items, total=len(items), what=model.parent.name, unit="slide"):
        name, positive = item["slide_id"], item["label"] == 1
        image = pack(load(item))["image"][None]
        observed = (image[0, : network.embedding_channels] != 0).any(dim=0).numpy()
        lesion = np.zeros_like(observed)
        if positive:
            grid = read_embedding(Path(item["embedding"])).grid
            lesion = observed & lesion_cells(mask_of[name], grid, slide=rows[name].path)
        with torch.no_grad():
            raw = torch.softmax(network(image), dim=1).tolist()
        probabilities = calibrated(raw, card["temperature"])
        called = bool(predicted_classes(probabilities, card["threshold"])[0])
        for method, layer in scores:
            heat = HeatMap(method, layer)(network, image, 1)
            slide = MappedSlide(name, None, positive, called, float(probabilities[0, 1]), heat, observed, lesion)
            scores[method, layer].append(score_slide(slide, kind="cam", threshold=0.5, lowest=0.05, nms_cells=5))
    return scores


def main() -> None:
    """Score and print, the best hit rate first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True, help="folder of <slide_id>.png")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="weights of train.yaml")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    per_model = [score_maps(path, arguments.dataset_dir, arguments.masks, arguments.split) for path in arguments.models]
    table = {}
    for key in per_model[0]:
        reports = [summarise(of_model[key], resamples=1, seed=0)[0] for of_model in per_model]
        table[key] = [np.mean([report[name]["value"] for report in reports]) for name in FIGURES]
        chance = np.mean([report["hit_rate"]["chance"] for report in reports])
    print(f"| method | layer | hit rate (chance {chance:.3f}) | FROC | cell AUC |\n|---|---|---|---|---|")
    for (method, layer), figures in sorted(table.items(), key=lambda pair: -pair[1][0]):
        print(f"| {method} | {layer} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
