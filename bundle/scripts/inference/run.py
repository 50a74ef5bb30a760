"""The stage ``inference``: what becomes of the classified slides, predictions and heat maps."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..common.apart import run_apart
from ..common.boundary import slide_boundary
from ..common.errors import RequestError, SlideError
from ..common.files import writing_to
from ..common.progress import track
from ..dsnet.heat_map import HeatMap, Network
from ..encoding.facts import facts_of
from ..encoding.store import Embedding, read_embedding
from ..encoding.tissue_record import read_tissue
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction, write_predictions
from ..slides.box import box_of_slide
from ..slides.reader import open_slide
from ..training.evaluation import PredictionCollector
from ..training.leakage import seen_splits
from ..training.transforms import LoadEmbeddingd, PackMatricesd
from .exports import write_heat_map
from .overlay import SIDE_PX
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
    network: Network,
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
    calibrated = calibrated_predictions(_finite(slides, collector.predictions), card["temperature"])
    predictions = [replace(one, other_label=slides.other_labels.get(one.slide_id)) for one in calibrated]
    write_predictions(output / "predictions.csv", predictions, class_names=names, threshold=chosen)
    write_run(output / "inference.json", card=card, threshold=chosen, settings=settings or {})
    if heat_maps:
        item_of = {item["slide_id"]: item for item in slides.items}
        items = [item_of[prediction.slide_id] for prediction in predictions]
        failures = write_heat_maps(
            items, predictions, network, card, output, device=device, target=target, heat_map=heat_map
        )
        for slide_id, error in failures.items():
            slides.fail(slide_id, f"predicted, but without a heat map: {error}")


def _finite(slides: InferenceSet, predictions: Sequence[Prediction]) -> list[Prediction]:
    """The predictions that are numbers; the slides of the others failed."""
    finite = [prediction for prediction in predictions if prediction.is_finite]
    for prediction in predictions:
        if not prediction.is_finite:
            slides.fail(
                prediction.slide_id,
                f"{prediction.slide_id}: the network says NaN, expected probabilities: check the slide's features, or name another model",
            )
    return finite


def write_heat_maps(
    items: Sequence[Mapping[str, Any]],
    predictions: Sequence[Prediction],
    network: Network,
    card: dict[str, Any],
    output: Path,
    *,
    device: torch.device | str = "cpu",
    target: int | None = None,
    heat_map: HeatMap | None = None,
) -> dict[str, SlideError]:
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

    Returns:
        what went wrong, by slide id; all other slides have their folder.

    Raises:
        StorageError: nothing more can be written.
    """
    names = card["class_names"]
    make_map = heat_map or HeatMap()
    seen = seen_splits(card)
    failures: dict[str, SlideError] = {}
    network.eval()
    pairs = list(zip(items, predictions, strict=True))
    for item, prediction in track(pairs, total=len(pairs), what="heat maps", unit="slide"):
        shown = target
        if shown is None:
            shown = 1 if len(names) == 2 else max(range(len(names)), key=prediction.probabilities.__getitem__)
        seen_in = seen.get(facts_of(Path(item["embedding"])).fingerprint) if seen else None
        try:
            with slide_boundary(item["slide"]), writing_to(output):
                _write_slide(
                    output / prediction.slide_id,
                    item,
                    prediction,
                    network,
                    device=device,
                    shown=shown,
                    class_name=names[shown],
                    make_map=make_map,
                    seen_in=seen_in,
                )
        except SlideError as error:
            failures[prediction.slide_id] = error
    return failures


def _write_slide(
    folder: Path,
    item: Mapping[str, Any],
    prediction: Prediction,
    network: Network,
    *,
    device: torch.device | str,
    shown: int,
    class_name: str,
    make_map: HeatMap,
    seen_in: str | None,
) -> None:
    """Write the heat map of one slide for its class number ``shown``, and its scores."""
    slide, kind = Path(item["slide"]), make_map.kind(network)
    embedding = read_embedding(Path(item["embedding"]))
    matrices = LoadEmbeddingd()(item)
    thumbnail = (255 * (1 - matrices["t"][:3])).round().to(torch.uint8).permute(1, 2, 0).numpy()
    write_heat_map(
        folder,
        cam=make_map(network, PackMatricesd()(matrices)["image"][None].to(device), shown),
        observed=(matrices["v"] != 0).any(dim=0).numpy(),
        thumbnail=thumbnail,
        origin_xy_px=embedding.origin_xy_px,
        patch_px_level0=embedding.patch_px_level0,
        mpp_x=embedding.attributes.get("mpp_x"),
        mpp_y=embedding.attributes.get("mpp_y"),
        class_name=class_name,
        slide=slide,
        bounds_xy_px=_bounds_xy_px(embedding, slide),
        picture=box_of_slide(slide, embedding.grid, SIDE_PX),
        kind=kind,
    )
    write_scores(
        folder,
        item=item,
        prediction=prediction,
        embedding=embedding,
        tissue=read_tissue(Path(item["embedding"])),
        thumbnail=thumbnail,
        class_shown=class_name,
        kind=kind,
        seen_in=seen_in,
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
