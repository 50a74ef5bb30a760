"""``predictions.csv``: what was predicted for each slide."""

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..common.boundary import file_boundary
from ..common.errors import RequestError, SlideError
from ..common.files import write_csv
from ..common.names import require_plain_name
from ..slides.columns import require_header
from .metrics import Threshold, predicted_classes

_BEFORE = ("slide_id", "label", "predicted")
_AFTER = ("stream_score", "threshold")
_P = "p_"
MOST = 1 + 1e-6
"""A probability may be so much by rounding, and is then read as 1."""


@dataclass(frozen=True)
class Prediction:
    """One slide's result.

    Attributes:
        slide_id: name of the slide.
        label: class index of its label, ``None`` where it has none.
        probabilities: one per class, in the order of the class names.
        stream_score: share of the local (V) stream in [0, 1], ``None`` where the network has no such output.
        channel_scores: the channel attention's weight of every channel; not part of ``predictions.csv``.
        other_label: label that the table gives it and that is none of the model's classes.
    """

    slide_id: str
    label: int | None
    probabilities: tuple[float, ...]
    stream_score: float | None
    channel_scores: tuple[float, ...] = ()
    other_label: str | None = None

    @property
    def is_finite(self) -> bool:
        """Whether all of it are numbers: neither NaN nor infinite."""
        return all(map(math.isfinite, (*self.probabilities, self.stream_score or 0.0)))


@dataclass(frozen=True)
class PredictionTable:
    """A whole ``predictions.csv``: the slides, the names of the classes, and the threshold on P(class 1) of each slide.

    One model has one threshold for all its slides; in the pooled predictions of k folds each slide has its fold's.
    """

    predictions: tuple[Prediction, ...]
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...] | None


def write_predictions(
    path: str | os.PathLike[str],
    predictions: Sequence[Prediction],
    *,
    class_names: Sequence[str],
    threshold: Threshold,
) -> None:
    """Write ``predictions.csv``; the file is whole or absent.

    Columns: slide_id, label, predicted, p_<class> in the order of ``class_names``, stream_score, threshold. Classes are
    written by name, never by index, so that no reader can confuse their order. Numbers keep every digit; what is
    missing is an empty field. ``threshold`` is one for all slides, one per slide, or none (more than two classes).
    """
    thresholds = threshold if isinstance(threshold, Sequence) else [threshold] * len(predictions)
    columns = [*_BEFORE, *(f"{_P}{name}" for name in class_names), *_AFTER]
    rows = []
    for prediction, of_slide in zip(predictions, thresholds, strict=True):
        decision = int(predicted_classes([prediction.probabilities], of_slide)[0])
        fields = [
            prediction.slide_id,
            (prediction.other_label or "") if prediction.label is None else class_names[prediction.label],
            class_names[decision],
            *(_text(p) for p in prediction.probabilities),
            _text(prediction.stream_score),
            _text(of_slide),
        ]
        rows.append(dict(zip(columns, fields, strict=True)))
    write_csv(path, columns, rows)


def require_finite(predictions: Sequence[Prediction]) -> None:
    """Refuse to count predictions of which some are no numbers.

    Raises:
        SlideError: names their slides.
    """
    wrong = [prediction.slide_id for prediction in predictions if not prediction.is_finite]
    if wrong:
        raise SlideError(
            f"{len(wrong)} of {len(predictions)} slides have the probability NaN ({', '.join(wrong)}); expected numbers: check "
            "their features, name another model, or train anew with a smaller --learning_rate"
        )


def read_predictions(path: str | os.PathLike[str], *, other_labels: bool = False) -> PredictionTable:
    """Read what `write_predictions` wrote.

    Args:
        path: the file.
        other_labels: whether labels that are no class are kept, as inference writes them, or refused.

    Raises:
        RequestError: the file is missing, is not such a table, names an unknown class, or holds a slide twice. Or a slide's name
            would lead out of the folder, or a probability is none.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"{path}: no such file, expected a predictions.csv; run the evaluation or inference first")
    with (
        file_boundary(path, "not a table", "a predictions.csv: write it anew"),
        open(path, newline="", encoding="utf-8-sig") as file,
    ):
        reader = csv.DictReader(file)
        rows, columns = list(reader), tuple(reader.fieldnames or ())
    require_header(columns, str(path))
    p_columns = columns[len(_BEFORE) : -len(_AFTER)]
    framed = columns[: len(_BEFORE)] == _BEFORE and columns[-len(_AFTER) :] == _AFTER
    if not framed or len(p_columns) < 2 or not all(column.startswith(_P) for column in p_columns):
        raise RequestError(
            f"{path}: columns are {', '.join(columns)}, expected {', '.join(_BEFORE)}, two or more {_P}<class>, "
            f"{', '.join(_AFTER)}; write the file anew by the evaluation or inference"
        )
    class_names = tuple(column.removeprefix(_P) for column in p_columns)
    predictions: dict[str, Prediction] = {}
    thresholds: list[float] = []
    for line, row in enumerate(rows, start=2):
        try:
            label, known = row["label"], row["label"] in class_names
            if label and not known and (not other_labels or "\0" in label):
                raise ValueError(f"label {label!r}")
            prediction = Prediction(
                slide_id=str(row["slide_id"]),
                label=class_names.index(label) if known else None,
                probabilities=tuple(float(row[column]) for column in p_columns),
                stream_score=_number(row["stream_score"]),
                other_label=label if label and not known else None,
            )
            thresholds += [] if row["threshold"] == "" else [float(row["threshold"])]
            if not prediction.is_finite or not all(0 <= p <= MOST for p in prediction.probabilities):
                raise ValueError("probabilities that are NaN or beyond 0 to 1")
            prediction = replace(prediction, probabilities=tuple(min(1.0, p) for p in prediction.probabilities))
            if any(map(math.isnan, thresholds[-1:])):
                raise ValueError("threshold NaN")
        except (ValueError, TypeError) as error:
            raise RequestError(
                f"{path}, line {line}: {error}; expected numbers and one of the classes {', '.join(class_names)}; "
                "correct the line or write the file anew"
            ) from error
        require_plain_name(prediction.slide_id, f"{path}, line {line}")
        if prediction.slide_id in predictions:
            raise RequestError(
                f"{path}, line {line}: slide {prediction.slide_id} a second time; remove one of its lines"
            )
        predictions[prediction.slide_id] = prediction
    expected = len(rows) if len(class_names) == 2 else 0
    if len(thresholds) != expected:
        raise RequestError(
            f"{path}: {len(thresholds)} of {len(rows)} slides have a threshold, expected {expected} for {len(class_names)} "
            "classes; write the file anew"
        )
    return PredictionTable(tuple(predictions.values()), class_names, tuple(thresholds) if expected else None)


def _text(value: float | None) -> str:
    """Return the shortest text that reads back as the same number."""
    return "" if value is None else repr(float(value))


def _number(text: str) -> float | None:
    return float(text) if text else None
