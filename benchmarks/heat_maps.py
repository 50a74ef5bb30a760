"""How well trained networks show lesions: class activation maps by method and layer, or what networks say of each patch.

    python benchmarks/heat_maps.py --dataset_dir embeddings --masks mosaics/masks --split val --models runs/full/seed*/model.pt
    python benchmarks/heat_maps.py --dataset_dir embeddings --masks mosaics/masks --split test --models segmented/*/segmentation.pt

Choose by the validation slides; then report what was chosen on the test slides once (--methods gradcam --layers embedding_blocks.0).
Hit rate: of the correctly called positive slides of all networks together, with a 95 % bootstrap interval over slides (a slide enters with
what all networks say of it) and the chance level. FROC (all slides), cell AUC (slides with a lesion) and Dice (pooled over the cells of all
slides, at each network's best threshold on the validation slides): means over the networks. The figures of one network are those of
localise.yaml on its output.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))

from scripts.common.progress import track
from scripts.dsnet.grad_cam import LAYERS, METHODS
from scripts.dsnet.heat_map import HeatMap
from scripts.encoding.embedding_file import read_embedding
from scripts.evaluation.bootstrap import drawn_from, resample_weights
from scripts.evaluation.calibration import calibrated
from scripts.evaluation.interval import estimate
from scripts.evaluation.metrics import predicted_classes
from scripts.localisation.localisation_run import summarise
from scripts.localisation.mapped_slide import MappedSlide, observed_lesions
from scripts.localisation.scores import Calls, SlideScores, score_slide
from scripts.slides.lesion_mask import all_lesion_cells, find_masks
from scripts.training.batches import image_of
from scripts.training.card import load_model, network_from_card, read_card
from scripts.training.training_table import EmbeddingTable
from scripts.training.transforms import LoadEmbeddingd

RESAMPLES = 2000
FIGURES = ("froc", "cell_auc", "dice_pooled")
PATCH_MAP = ("patch map", "")

Maps = dict[tuple[str, str], list[SlideScores]]  # by method and layer


def score_maps(model: Path, dataset: Path, masks: Path, split: str, *, methods: list[str], layers: list[str]) -> Maps:
    """Score the maps of one network."""
    card = read_card(model)
    network = load_model(network_from_card(card), model, card).eval()
    levels = card.network["thumbnail_levels"]
    table = EmbeddingTable(dataset, classes=card.class_names, levels=levels, channel_range=card.channel_range)
    rows = {row.slide_id: row for row in table.rows}
    mask_of = find_masks(table.rows, table.source, masks)
    of_patches = HeatMap().kind(network).is_probability
    keys = [PATCH_MAP] if of_patches else [(method, layer) for method in methods for layer in layers]
    scores: Maps = {key: [] for key in keys}
    load = LoadEmbeddingd()
    items = table.items(split)
    for item in track(items, total=len(items), what=model.parent.name, unit="slide"):
        name, positive = item["slide_id"], item["label"] == 1
        image = image_of(load(item))
        observed = (image[0, : network.embedding_channels] != 0).any(dim=0).numpy()
        lesion, unobserved = np.zeros_like(observed), 0
        if positive:
            grid = read_embedding(Path(item["embedding"])).grid
            cells, begin_yx = all_lesion_cells(mask_of[name], grid, slide=rows[name].path)
            lesion, unobserved = observed_lesions(cells, observed, begin_yx)
        with torch.no_grad():
            raw = torch.softmax(network.attend(image)[0], dim=1).tolist()
        probabilities = calibrated(raw, card.temperature)
        called = bool(predicted_classes(probabilities, card.threshold)[0])
        for key in keys:
            heat = (HeatMap() if of_patches else HeatMap(*key))(network, image, 1)
            slide = MappedSlide(
                name, name, positive, called, float(probabilities[0, 1]), heat, observed, lesion, unobserved
            )
            kind = "probability" if of_patches else "cam"
            scores[key].append(score_slide(slide, kind=kind, calls=Calls()))
    return scores


def pooled_hit_rate(of_models: list[list[SlideScores]]) -> dict[str, Any]:
    """Hit rate of the correctly called positives of all networks; a resample draws slides, each with all its networks."""
    called = np.array([[one.slide.positive and one.slide.called for one in scores] for scores in of_models])
    hits = np.array([[one.hit for one in scores] for scores in of_models]) * called
    chance = np.array([[one.chance for one in scores] for scores in of_models])
    weights = resample_weights(called.shape[1], resamples=RESAMPLES)
    spread = (weights @ hits.sum(axis=0)) / np.maximum(weights @ called.sum(axis=0), 1)
    found = estimate(hits.sum() / called.sum(), spread, drawn_from(called.shape[1], None))
    return {
        "value": found.value,
        "ci95": found.ci95,
        "slides": int(called.sum()),
        "chance": float(chance[called].mean()),
    }


def report(scores: list[SlideScores], chosen_on: list[SlideScores]) -> dict[str, Any]:
    """Figures of one network, its threshold chosen on other slides."""
    threshold = summarise(chosen_on, resamples=1, seed=0).best_threshold.threshold
    own = [replace(one, calls=replace(one.calls, threshold=threshold)) for one in scores]
    return summarise(own, resamples=1, seed=0).to_json()


def main() -> None:
    """Score and print, the best hit rate first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True, help="folder of <slide_id>.png")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="weights, all of one kind")
    parser.add_argument("--split", default="val")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where = (arguments.dataset_dir, arguments.masks)
    chosen = {"methods": arguments.methods, "layers": arguments.layers}
    per_model = [score_maps(path, *where, arguments.split, **chosen) for path in arguments.models]
    tuning = per_model
    if arguments.split != "val":
        tuning = [score_maps(path, *where, "val", **chosen) for path in arguments.models]
    lines = []
    for key in per_model[0]:
        of_models = [of_model[key] for of_model in per_model]
        reports = [report(scores, val[key]) for scores, val in zip(of_models, tuning, strict=True)]
        hit = pooled_hit_rate(of_models)
        each = ", ".join(f"{one['hit_rate']['value']:.2f}" for one in reports)
        means = " | ".join(f"{np.mean([one[name]['value'] for one in reports]):.3f}" for name in FIGURES)
        ends = "no interval" if hit["ci95"] is None else "{:.3f}-{:.3f}".format(*hit["ci95"])
        lines.append((hit["value"], f"| {' | '.join(key)} | {hit['value']:.3f} ({ends}) | {each} | {means} |"))
    print(f"{hit['slides']} correctly called positives of {len(per_model)} networks; chance {hit['chance']:.3f}\n")
    print("| method | layer | hit rate (95 % interval) | each network | FROC | cell AUC | Dice |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(line for _, line in sorted(lines, reverse=True)))


if __name__ == "__main__":
    main()
