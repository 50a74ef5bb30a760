"""Outputs of inference and of an evaluation, written by the stages' own writers but without a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from inference.heat_map_views import view_of

from scripts.encoding.job import ManifestRow
from scripts.encoding.store import Embedding
from scripts.encoding.tissue_record import TissueRecord
from scripts.evaluation.predictions import Prediction, write_predictions
from scripts.inference.exports import write_heat_map
from scripts.inference.record import SlideOrigin, write_run, write_scores
from scripts.training.evaluation_files import write_evaluation
from scripts.training.model_card import ModelCard
from scripts.training.predicting import PredictionCollector

EVIL = "<script>alert(1)</script>"
SHAPE_YX = (6, 8)
PATCH_PX = 128


def card_of(*class_names: str, **changed: Any) -> ModelCard:
    """A model card as train.yaml writes it."""
    two = len(class_names) == 2
    content: dict[str, Any] = {
        "class_names": class_names,
        "threshold": 0.4 if two else None,
        "threshold_from": "val",
        "temperature": 1.25,
        "temperature_from": "val",
        "encoder": "SCAEEncoder sha256:ab",
        "network": {"embedding_channels": 128, "thumbnail_levels": 3, "thumbnail_stream": True, "sparse": True},
        "channel_range": None,
        "weights_sha256": "c0ffee",
        "validation": {"slides": 12, "auc": {"value": 0.9, "ci95": [0.7, 1.0]}},
        "training": {"slides": 30, "seed": 0, "max_epochs": 5, "selection": "epoch of highest validation AUC"},
        "seen": {"train": "0123", "val": ""},
        "versions": {"bundle": "0.1.0"},
        "intended_use": "research only",
    }
    return ModelCard(**content | changed)


def predictions_of(
    count: int, classes: int = 2, *, names: Sequence[str] = (), labelled: bool = True, seed: int = 0
) -> list[Prediction]:
    """Predictions that are right more often than not; the names given come first."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        label = index % classes
        scores = rng.random(classes) + 0.8 * (np.arange(classes) == label)
        found.append(
            Prediction(
                slide_id=names[index] if index < len(names) else f"slide_{index:02d}",
                label=label if labelled else None,
                probabilities=tuple(map(float, scores / scores.sum())),
                stream_score=float(rng.random()),
                channel_scores=tuple(map(float, rng.random(320))),
            )
        )
    return found


def write_inference(
    folder: Path,
    card: ModelCard,
    predictions: Sequence[Prediction],
    *,
    threshold: float | None = None,
    mpp: float | None = 0.5,
    seen_in: str | None = None,
    seen: Sequence[int] | None = None,
    patients: Sequence[str | None] | None = None,
    heat_maps: bool = True,
    empty_map: bool = False,
    failed: str | None = None,
) -> Path:
    """Write what inference leaves but for its manifest, with a slide that failed where one is named.

    Slides are seen in ``seen_in``: all, or those of the places ``seen``. Each is of a patient of its own, or of those given.
    """
    names, chosen = card.class_names, card.threshold if threshold is None else threshold
    write_predictions(folder / "predictions.csv", predictions, class_names=names, threshold=chosen)
    origins = {
        one.slide_id: SlideOrigin(
            f"p{index}" if patients is None else patients[index], seen_in if seen is None or index in seen else None
        )
        for index, one in enumerate(predictions)
    }
    settings = {"seed": 0, "slides": None}
    write_run(
        folder / "inference.json",
        card=card,
        threshold=chosen,
        settings=settings,
        slides=origins,
        mapped=origins if heat_maps else (),
        not_predicted=[ManifestRow(failed, f"{failed}.tif", "failed", error="damaged")] if failed else [],
    )
    for index, prediction in enumerate(predictions if heat_maps else ()):
        rng = np.random.default_rng(index)
        observed = np.ones(SHAPE_YX, dtype=bool)
        observed[: 1 + index % 3, : 1 + index % 4] = False
        cam = (rng.random(SHAPE_YX) * observed).astype(np.float32)
        cam *= 0 if empty_map else 1
        pink = np.array([210, 140, 190]) + rng.integers(-15, 16, (2 * SHAPE_YX[0], 2 * SHAPE_YX[1], 1))
        thumbnail = pink.astype(np.uint8)
        grid_yx = np.argwhere(observed).astype(np.int32)
        view = view_of(
            cam,
            observed=observed,
            thumbnail=thumbnail,
            origin_xy_px=(256, 512),
            patch_px_level0=PATCH_PX,
            mpp_xy=mpp and (mpp, mpp),
            class_name=names[1],
            slide=folder / "gone" / f"{index}.tif",
        )
        write_heat_map(folder / prediction.slide_id, view)
        write_scores(
            folder / prediction.slide_id,
            view,
            item={"slide": str(folder / "gone" / f"{index}.tif")},
            prediction=prediction,
            embedding=Embedding(
                features=np.ones((len(grid_yx), 4), dtype=np.float32),
                coords_xy_px=grid_yx[:, ::-1].astype(np.int64) * PATCH_PX + np.array([256, 512]),
                grid_yx=grid_yx,
                shape_yx=SHAPE_YX,
                patch_px_level0=PATCH_PX,
                thumbnail=None,
                tissue=TissueRecord(rng.random((12, 12)).astype(np.float32), 0, "rle", 0.4, 0.05),
                attributes={}
                if mpp is None
                else {"mpp_x": mpp, "mpp_y": mpp, "patch_um": 64.0, "read_px": 128, "read_level": 0},
            ),
        )
    return folder


def write_evaluated(folder: Path, card: ModelCard, predictions: Sequence[Prediction]) -> Path:
    """Write what evaluating leaves; the predictions are taken as uncalibrated."""
    collector = PredictionCollector()
    collector.predictions = list(predictions)
    collector.patients = [f"p{index // 2}" for index in range(len(predictions))]
    write_evaluation(collector, card, folder)
    return folder
