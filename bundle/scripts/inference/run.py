"""The stage ``inference``: what becomes of the classified slides, predictions and heat maps."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..common.apart import run_apart
from ..common.errors import RequestError, SlideError
from ..common.progress import track
from ..dsnet.heat_map import HeatMap
from ..dsnet.network import DSNet
from ..dsnet.segmentation import DSNetSegmentation
from ..encoding.store import Embedding, fingerprint, read_embedding
from ..encoding.tissue_record import read_tissue
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction, write_predictions
from ..slides.reader import open_slide
from ..training.evaluation import PredictionCollector
from ..training.leakage import seen_splits
from ..training.transforms import LoadEmbeddingd, PackMatricesd
from .exports import write_heat_map
from .record import write_run, write_scores
from .slide_set import InferenceSet

_LOGGER = logging.getLogger(__name__)


def class_index(card: dict[str, Any], target_class: str | int | None) -> int | None:
    """Return the number of the class whose heat map is wanted; None, which leaves it to the prediction, for None.

    Raises:
        RequestError: the model has no class of that name.
    """
    names: list[str] = card["class_names"]
    if target_class is None:
        return None
    if str(target_class) not in names:
        raise RequestError(
            f"target_class {str(target_class)!r}: the model knows {', '.join(names)}; name one of them, or leave it out"
        )
    return names.index(str(target_class))


def write_results(
    slides: InferenceSet,
    collector: PredictionCollector,
    network: DSNet | DSNetSegmentation,
    output_dir: str | Path,
    *,
    device: torch.device | str = "cpu",
    threshold: float | None = None,
    heat_maps: bool = True,
    target: int | None = None,
    settings: dict[str, Any] | None = None,
    heat_map: HeatMap | None = None,
) -> None:
    """Write ``predictions.csv``, ``inference.json`` and, a slide, its scores and the heat map of one class.

    Args:
        slides: what was classified.
        collector: holds the predictions.
        network: the trained network.
        output_dir: folder of the outputs.
        device: where the network runs.
        threshold: decision threshold on the calibrated P(class 1) instead of the model card's.
        heat_maps: whether to write the folders of the slides.
        target: number of the heat maps' class; None is class 1 of two, else the class predicted for each slide.
        settings: of the stage, for ``inference.json``.
        heat_map: makes them; None: the default one.
    """
    card, output = slides.card, Path(output_dir)
    names = card["class_names"]
    chosen = card["threshold"] if threshold is None else threshold
    predictions = calibrated_predictions(collector.predictions, card["temperature"])
    write_predictions(output / "predictions.csv", predictions, class_names=names, threshold=chosen)
    write_run(output / "inference.json", card=card, threshold=chosen, settings=settings or {})
    if heat_maps:
        write_heat_maps(
            slides.items, predictions, network, card, output, device=device, target=target, heat_map=heat_map
        )


def write_heat_maps(
    items: Sequence[Mapping[str, Any]],
    predictions: Sequence[Prediction],
    network: DSNet | DSNetSegmentation,
    card: dict[str, Any],
    output: Path,
    *,
    device: torch.device | str = "cpu",
    target: int | None = None,
    heat_map: HeatMap | None = None,
) -> None:
    """Write a folder ``<slide_id>`` a slide with the heat map of one class.

    Args:
        items: the slides, as :class:`.slide_set.InferenceSet` lists them.
        predictions: theirs, in the same order.
        network: the trained network.
        card: its card.
        output: folder of the folders.
        device: where the network runs.
        target: number of that class; None is class 1 of two, else the class predicted for each slide.
        heat_map: makes the maps; None: the default one.
    """
    names = card["class_names"]
    make_map = heat_map or HeatMap()
    kind = make_map.kind(network)
    load, pack, seen = LoadEmbeddingd(), PackMatricesd(), seen_splits(card)
    network.eval()
    pairs = list(zip(items, predictions, strict=True))
    for item, prediction in track(pairs, total=len(pairs), what="heat maps", unit="slide"):
        shown = target
        if shown is None:
            shown = 1 if len(names) == 2 else max(range(len(names)), key=prediction.probabilities.__getitem__)
        slide = Path(item["slide"])
        embedding = read_embedding(Path(item["embedding"]))
        matrices = load(item)
        pixels = (255 * (1 - matrices["t"][:3])).round().to(torch.uint8)
        write_heat_map(
            output / prediction.slide_id,
            cam=make_map(network, pack(matrices)["image"][None].to(device), shown),
            observed=(matrices["v"] != 0).any(dim=0).numpy(),
            thumbnail=pixels.permute(1, 2, 0).numpy(),
            origin_xy_px=embedding.origin_xy_px,
            patch_px_level0=embedding.patch_px_level0,
            mpp_x=embedding.attributes.get("mpp_x"),
            mpp_y=embedding.attributes.get("mpp_y"),
            class_name=names[shown],
            slide=slide,
            bounds_xy_px=_bounds_xy_px(embedding, slide),
            kind=kind,
        )
        write_scores(
            output / prediction.slide_id,
            item=item,
            prediction=prediction,
            embedding=embedding,
            tissue=read_tissue(Path(item["embedding"])),
            thumbnail=pixels.permute(1, 2, 0).numpy(),
            class_shown=names[shown],
            kind=kind,
            seen_in=seen.get(fingerprint(Path(item["embedding"]))) if seen else None,
        )


def _bounds_xy_px(embedding: Embedding, slide: Path) -> tuple[int, int]:
    """Corner of what was scanned, from the embedding file or else the slide; where neither says, that of the glass."""
    bounds = embedding.attributes.get("bounds_xywh_px")
    if bounds is None and slide.is_file():
        try:
            bounds = run_apart(_bounds_of, slide, slide)
        except SlideError as error:  # it is not needed for anything else here
            _LOGGER.debug("%s", error)
    return (0, 0) if bounds is None else (int(bounds[0]), int(bounds[1]))


def _bounds_of(slide: Path) -> tuple[int, int, int, int]:
    with open_slide(slide) as reader:
        return reader.bounds_xywh_px
