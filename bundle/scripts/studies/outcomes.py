"""What the finished runs of a study left, and figures with their intervals as columns and cells of its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import RequestError
from ..evaluation.bootstrap import RESAMPLES, Resampled, Run, drawn_from, resampled_metrics
from ..evaluation.interval import Estimate
from ..evaluation.metrics import Ints
from ..evaluation.predictions import read_predictions
from ..training.card import read_card
from ..training.model_card import ModelCard
from ..training.slide_item import SlideItem


@dataclass(frozen=True)
class EvaluatedSlides:
    """The test slides, in the order of the table.

    Attributes:
        labels: (N,) class indices.
        patients: (N,) patient, None where none is known.
        ids: (N,) names.
    """

    labels: Ints
    patients: tuple[str | None, ...]
    ids: tuple[str, ...]

    @classmethod
    def of(cls, items: Sequence[SlideItem]) -> "EvaluatedSlides":
        """From the items of :class:`..training.training_table.EmbeddingTable`."""
        return cls(
            np.array([item["label"] for item in items], dtype=np.int64),
            tuple(item["patient"] or None for item in items),
            tuple(item["slide_id"] for item in items),
        )

    @property
    def unit(self) -> str:
        """What a resample draws."""
        return drawn_from(len(self.ids), self.patients).unit


@dataclass(frozen=True)
class Outcome:
    """What one run left.

    Attributes:
        seed: of the training.
        run: probabilities of the test slides in their order, and the threshold.
        alone: its metrics on the test slides and on their resamples.
        card: of the weights.
        dataset: index of the dataset, where a study has several.
    """

    seed: int
    run: Run
    alone: Resampled
    card: ModelCard
    dataset: int = 0

    @property
    def auc(self) -> float:
        """On the test slides; NaN where undefined."""
        return self.alone.values["auc"]

    @property
    def validation_auc(self) -> float:
        """On the validation slides, at the epoch that was chosen on them."""
        return float(self.card.validation["auc"]["value"])


def read_outcome(
    folder: Path, slides: EvaluatedSlides, *, seed: int, dataset: int = 0, draw: int = 0, resamples: int = RESAMPLES
) -> Outcome:
    """Read what a finished run left in ``folder``.

    Args:
        folder: of the run.
        slides: the test slides.
        seed: of the training.
        dataset: index of the dataset, where a study has several.
        draw: seeds the resampling; all runs on the same test slides share it.
        resamples: how many.

    Raises:
        RequestError: the predictions are of other slides.
    """
    path = folder / "predictions.csv"
    by_id = {prediction.slide_id: prediction for prediction in read_predictions(path).predictions}
    if set(by_id) != set(slides.ids):
        raise RequestError(
            f"{path}: other slides than the test slides of the dataset, expected the same for every run: give the embeddings of "
            f"one set of slides, or remove {folder} and run again"
        )
    card = read_card(folder / "model.pt")
    run = Run(np.array([by_id[slide_id].probabilities for slide_id in slides.ids]), card.threshold)
    alone = resampled_metrics(slides.labels, [run], patients=slides.patients, resamples=resamples, seed=draw)
    return Outcome(seed, run, alone, card, dataset)


def paired(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Return each outcome with that of ``others`` of the same dataset and seed; those without are left out."""
    by_run = {(other.dataset, other.seed): other for other in others}
    return [(one, by_run[one.dataset, one.seed]) for one in outcomes if (one.dataset, one.seed) in by_run]


def columns_of(name: str, found: Estimate) -> dict[str, float | None]:
    """Return a figure and the ends of its interval as the columns ``<name>``, ``<name>_low`` and ``<name>_high``."""
    low, high = found.ci95 or (None, None)
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}


def estimate_cell(record: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """A figure with its interval, see :func:`columns_of`; an empty text without a figure."""
    if record[name] is None:
        return ""
    return f"{record[name]:{form}} ({interval_cell(record, name, form) or 'no interval'})"


def interval_cell(record: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """The interval of the columns ``<name>_low`` and ``<name>_high``; an empty text without one."""
    ends = [record[f"{name}_{end}"] for end in ("low", "high")]
    return "" if None in ends else " to ".join(f"{end:{form}}" for end in ends)
