"""The stage ``localising``: hit rate, FROC, cell AUC and Dice of a cohort's heat maps, with intervals."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.metrics import compute_froc_curve_data, compute_froc_score
from numpy.typing import NDArray

from ..common.files import write_csv, write_json
from ..common.markdown import number
from ..common.option_table import OF_STAGE, checked
from ..common.option_words import MapValues
from ..common.outputs import HeldOutputs
from ..evaluation.bootstrap import drawn_from, group_by_patient, resample_weights
from ..evaluation.interval import Bootstrap, Drawn, Estimate, estimate
from ..evaluation.score_interval import share_interval
from .inputs import read_mapped_slides
from .plot import write_froc_plot
from .scores import Calls, SlideScores, score_slide

_LOGGER = logging.getLogger(__name__)

FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Per slide, at which Camelyon16 averages the sensitivity."""

THRESHOLDS = tuple(float(step) for step in np.round(np.arange(0.05, 1.0, 0.05), 2))
DEFAULT_CALLS = Calls()
COLUMNS = (
    "slide_id", "positive", "called", "probability", "observed_cells", "lesion_cells", "lesions",
    "unobserved_lesions", "lesions_hit", "false_detections", "hit", "chance", "cell_auc", "dice",
)  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BestThreshold:
    """The threshold of highest pooled Dice on these slides: an honest choice on validation slides, a flattering one elsewhere."""

    threshold: float
    dice_pooled: float


@dataclass(frozen=True)
class Localisation:
    """How well the heat maps of a cohort show its lesions.

    Attributes:
        slides: that were scored.
        positive: those with a lesion by their label.
        correctly_called: positive ones that were called so.
        lesions: of all slides, observed or not.
        unobserved_lesions: those of them without an observed cell, which no map can show; they count as missed.
        seen_in_training: slides that the model met when it was trained; None where that is not known.
        figures: with their intervals, by name.
        beside: what is said beside a figure, by its name and its own.
        curve: FROC curve: false positives per slide, and sensitivity, (P,) each.
        sensitivity: at the false positives that the FROC score averages over.
        best_threshold: of the map.
        bootstrap: what the intervals were drawn from.
        seed: of the bootstrap.
    """

    slides: int
    positive: int
    correctly_called: int
    lesions: int
    unobserved_lesions: int
    seen_in_training: int | None
    figures: Mapping[str, Estimate]
    beside: Mapping[str, Mapping[str, float | None]]
    curve: tuple[Floats, Floats]
    sensitivity: Mapping[float, float]
    best_threshold: BestThreshold
    bootstrap: Bootstrap
    seed: int

    def to_json(self) -> dict[str, object]:
        """The content of ``localisation.json``, but for what was asked."""
        sensitivity = {f"{rate:g}": found for rate, found in self.sensitivity.items()}
        beside: dict[str, Mapping[str, object]] = {**self.beside, "froc": {"sensitivity": sensitivity}}
        return {
            "slides": self.slides,
            "positive": self.positive,
            "correctly_called": self.correctly_called,
            "lesions": self.lesions,
            "unobserved_lesions": self.unobserved_lesions,
            "seen_in_training": self.seen_in_training,
            **{name: {**one.to_json(), **beside.get(name, {})} for name, one in self.figures.items()},
            "best_threshold": asdict(self.best_threshold),
            "seed": self.seed,
            "bootstrap": self.bootstrap.to_json(self.figures),
        }


def localise(
    predictions_dir: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    *,
    kind: MapValues | None = None,
    calls: Calls = DEFAULT_CALLS,
    resamples: int = 1000,
    seed: int = 0,
    replace: bool = False,
    **inputs: Any,
) -> dict[str, object]:
    """Score the heat maps that inference left and write ``localisation.json``, ``localisation.csv`` and ``froc.png``.

    Args:
        predictions_dir: output folder of inference.
        dataset_dir: its embeddings.
        output_dir: folder of the files.
        kind: what the maps are, see :class:`.scores.SlideScores`; None: what inference said of them, else "cam".
        calls: what of a map is called lesion.
        resamples: of the bootstrap, over patients where they are known.
        seed: of the bootstrap.
        replace: whether the figures of another request may be replaced.
        inputs: further arguments of :func:`.inputs.read_mapped_slides`.

    Returns:
        the content of ``localisation.json``.

    Raises:
        RequestError: an option is none, or see there and :class:`..common.outputs.HeldOutputs`.
        SlideError: see there.
    """
    if kind is not None:
        checked("map", kind, OF_STAGE["localising"]["map"])
    checked("resamples", resamples)
    checked("seed", seed)
    output = Path(output_dir)
    request = {
        "predictions_dir": str(Path(predictions_dir).absolute()),
        "dataset_dir": str(Path(dataset_dir).absolute()),
        "map": kind,
        **asdict(calls),
        "resamples": resamples,
        "seed": seed,
        **inputs,
    }
    outputs = HeldOutputs(
        output,
        "localising",
        request,
        writes=("localisation.csv", "froc.png", "localisation.json"),
        replace=replace,
    )
    outputs.check()
    slides, known = read_mapped_slides(predictions_dir, dataset_dir, kind=kind, **inputs)
    scores = [score_slide(one, kind=known, calls=calls) for one in slides]
    found = summarise(scores, resamples=resamples, seed=seed)
    report = {
        **found.to_json(),
        "map": known,
        **asdict(calls),
        "split": inputs.get("split"),
    }
    with outputs:
        write_csv(output / "localisation.csv", COLUMNS, (_row(one) for one in scores))
        write_froc_plot(output / "froc.png", *found.curve, found.figures["froc"], found.sensitivity)
        write_json(output / "localisation.json", report)
    hit, froc = found.figures["hit_rate"], found.figures["froc"]
    _LOGGER.info(
        "hottest cell in the lesion: %s of %d correctly called positive slides (chance %s); FROC %s on %d slides, %d lesions, of "
        "which %d have no observed patch",
        number(hit.value), found.correctly_called, number(found.beside["hit_rate"]["chance"]), number(froc.value), len(slides),
        found.lesions, found.unobserved_lesions,
    )  # fmt: skip
    return report


def summarise(scores: Sequence[SlideScores], *, resamples: int, seed: int) -> Localisation:
    """Return the cohort's figures with 95 % intervals, and its FROC curve.

    Hit rates, of slides and of lesions, have the interval of `..evaluation.score_interval.share_interval`; all others are of the
    bootstrap.

    The hit rate is that of the correctly called positive slides, beside that of all positive ones; everything else counts all
    slides.
    """
    slides = [one.slide for one in scores]
    patients, seen = [slide.patient for slide in slides], [slide.seen for slide in slides]
    drawn = drawn_from(len(slides), patients)
    weights = resample_weights(len(slides), patients=patients, resamples=resamples, seed=seed)
    positive = np.array([slide.positive for slide in slides])
    right = positive & np.array([slide.called for slide in slides])
    chance, aucs = (np.array([getattr(one, name) for one in scores]) for name in ("chance", "cell_auc"))
    curve, _ = _froc(scores, np.ones(len(scores)))
    false_positives = float(np.mean([(one.detections[0] >= one.calls.threshold).sum() for one in scores]))
    return Localisation(
        slides=len(slides),
        positive=int(positive.sum()),
        correctly_called=int(right.sum()),
        lesions=sum(len(one.detections[1]) for one in scores),
        unobserved_lesions=sum(slide.unobserved_lesions for slide in slides),
        seen_in_training=None if None in seen else sum(map(bool, seen)),
        figures=_estimates(scores, positive, right, weights, patients, drawn),
        beside={
            "hit_rate": {"slides": int(right.sum()), "chance": _share(chance, right)},
            "hit_rate_all_positives": {"slides": int(positive.sum()), "chance": _share(chance, positive)},
            "lesion_hit_rate": {"false_positives_a_slide": false_positives},
            "cell_auc": {"slides": int(np.isfinite(aucs).sum())},
            "dice": {"slides": sum(bool(slide.lesion.any()) for slide in slides)},
        },
        curve=curve,
        sensitivity={rate: float(np.interp(rate, curve[0][::-1], curve[1][::-1])) for rate in FALSE_POSITIVES},
        best_threshold=_best_threshold(scores),
        bootstrap=Bootstrap(drawn, resamples),
        seed=seed,
    )


def _estimates(
    scores: Sequence[SlideScores],
    positive: NDArray[np.bool_],
    right: NDArray[np.bool_],
    weights: Floats,
    patients: Sequence[str | None],
    drawn: Drawn,
) -> dict[str, Estimate]:
    """The figures with their intervals; ``right`` are the positive slides that were called so."""
    hits, aucs, dice = (np.array([getattr(one, name) for one in scores]) for name in ("hit", "cell_auc", "dice"))
    with_lesion = np.array([one.slide.lesion.any() for one in scores])
    lesions_hit = np.array([one.lesions_hit for one in scores])
    overlaps = np.array([one.overlap(one.calls.threshold) for one in scores])
    group_of_slide, _ = group_by_patient(len(scores), patients)

    def ratio(numerators: NDArray[Any], denominators: NDArray[Any], *, is_share: bool = False) -> Estimate:
        """Sum over sum; undefined where there is nothing to divide by."""
        above, below = weights @ numerators, weights @ denominators
        spread = np.divide(above, below, out=np.full(len(weights), np.nan), where=below > 0)
        value = numerators.sum() / denominators.sum() if denominators.sum() else float("nan")
        ends = share_interval(numerators, denominators, group_of_slide) if is_share else None
        return estimate(float(value), spread, drawn, ends=ends)

    def mean(values: Floats, chosen: NDArray[np.bool_], *, is_share: bool = False) -> Estimate:
        return ratio(np.where(chosen, values, 0), chosen, is_share=is_share)

    froc = np.array([_froc(scores, of_resample)[1] for of_resample in weights])
    return {
        "hit_rate": mean(hits, right, is_share=True),
        "hit_rate_all_positives": mean(hits, positive, is_share=True),
        "froc": estimate(_froc(scores, np.ones(len(scores)))[1], froc, drawn),
        "lesion_hit_rate": ratio(lesions_hit, np.array([len(one.detections[1]) for one in scores]), is_share=True),
        "cell_auc": mean(aucs, np.isfinite(aucs)),
        "dice": mean(dice, with_lesion),
        "dice_pooled": ratio(overlaps[:, 0], overlaps[:, 1]),
    }


def _froc(scores: Sequence[SlideScores], weights: Floats) -> tuple[tuple[Floats, Floats], float]:
    """Curve and score of the Camelyon16 challenge by MONAI, slide i entering ``weights[i]`` times; NaN without a lesion.

    MONAI leaves the lowest score out, as the challenge does. A score of 0, which no detection has, is added to be that one.
    """
    counts = weights.astype(np.int64)
    false, true = (
        np.concatenate([np.repeat(one.detections[part], count) for one, count in zip(scores, counts, strict=True)])
        for part in (0, 1)
    )
    if not len(true):
        return (np.zeros(1), np.zeros(1)), float("nan")
    curve = compute_froc_curve_data(np.append(false, 0.0), true, len(true), int(counts.sum()))
    return curve, float(compute_froc_score(*curve, eval_thresholds=FALSE_POSITIVES))


def _best_threshold(scores: Sequence[SlideScores]) -> BestThreshold:
    above, below = np.array([np.sum([one.overlap(threshold) for one in scores], axis=0) for threshold in THRESHOLDS]).T
    dice = above / np.maximum(below, 1)  # 0 where no cell is called and no lesion observed
    return BestThreshold(THRESHOLDS[int(np.argmax(dice))], float(np.max(dice)))


def _share(values: Floats, chosen: NDArray[np.bool_]) -> float | None:
    return float(values[chosen].mean()) if chosen.any() else None


def _row(one: SlideScores) -> dict[str, int | str]:
    slide, (false, true) = one.slide, one.detections
    return {
        "slide_id": slide.slide_id,
        "positive": int(slide.positive),
        "called": int(slide.called),
        "probability": f"{slide.probability:.6g}",
        "observed_cells": int(slide.observed.sum()),
        "lesion_cells": int(slide.lesion.sum()),
        "lesions": len(true),
        "unobserved_lesions": slide.unobserved_lesions,
        "lesions_hit": one.lesions_hit,
        "false_detections": int((false >= one.calls.threshold).sum()),
        "hit": f"{one.hit:.6g}" if slide.positive else "",
        "chance": f"{one.chance:.6g}" if slide.positive else "",
        "cell_auc": f"{one.cell_auc:.6g}" if np.isfinite(one.cell_auc) else "",
        "dice": f"{one.dice:.6g}" if np.isfinite(one.dice) else "",
    }
