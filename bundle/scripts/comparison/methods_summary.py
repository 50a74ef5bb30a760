"""What the runs of each method come to: AUC, balanced accuracy, the difference to DSNet, cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from ..common.errors import RequestError
from ..common.json_files import NUMBER, read_json
from ..evaluation.bootstrap import RESAMPLES, Run, drawn_from, resampled_metrics
from ..evaluation.compare import compare
from ..evaluation.interval import Drawn, Estimate, estimate
from ..evaluation.metrics import Floats, Ints
from ..evaluation.predictions import read_predictions
from ..studies.runs import Run as Training
from ..training.card import read_card
from ..training.slide_item import SlideItem
from .cost import Cost

COLUMNS = (
    "method", "title", "runs", "auc", "auc_low", "auc_high", "sd_over_seeds", "balanced_accuracy", "balanced_accuracy_low",
    "balanced_accuracy_high", "difference", "difference_low", "difference_high", "difference_p", "difference_t_low",
    "difference_t_high", "validation_auc", "parameters", "gflop", "peak_mib", "training_s", "evaluating_s", "paper_camelyon16",
    "paper_tcga_lusc",
)  # fmt: skip


@dataclass(frozen=True)
class Slides:
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
    def of(cls, items: Sequence[SlideItem]) -> "Slides":
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
    """What one training left.

    Attributes:
        seed: of the training.
        run: probabilities of the test slides, and the threshold.
        validation_auc: of the chosen epoch.
        seconds: of training and of evaluating.
        peak_mib: largest memory of the process.
    """

    seed: int
    run: Run
    validation_auc: float
    seconds: tuple[float, float]
    peak_mib: float


def read_outcome(training: Training, slides: Slides) -> Outcome:
    """Read what a finished run left.

    Raises:
        RequestError: its predictions are of other slides.
    """
    path = training.folder / "predictions.csv"
    by_id = {prediction.slide_id: prediction for prediction in read_predictions(path).predictions}
    if set(by_id) != set(slides.ids):
        raise RequestError(
            f"{path}: other slides than the test slides of the dataset: remove that folder, and run again"
        )
    card = read_card(training.folder / "model.pt")
    done = read_json(
        training.folder / "run.json",
        expected="what a finished run writes: remove its folder",
        fields=dict.fromkeys(("training_s", "evaluating_s", "peak_mib"), NUMBER),
    )
    return Outcome(
        seed=training.seed,
        run=Run(np.array([by_id[slide_id].probabilities for slide_id in slides.ids]), card.threshold),
        validation_auc=float(card.validation["auc"]["value"]),
        seconds=(float(done["training_s"]), float(done["evaluating_s"])),
        peak_mib=float(done["peak_mib"]),
    )


def record_of(
    outcomes: Sequence[Outcome],
    slides: Slides,
    cost: Cost,
    *,
    against: Sequence[Outcome] = (),
    resamples: int = RESAMPLES,
) -> dict[str, object]:
    """Sum up one method's trainings.

    Args:
        outcomes: one per seed.
        slides: what they predict.
        cost: of its network.
        against: the outcomes of the method that it is compared with; of seeds that both have.
        resamples: of the bootstrap, which draws patients and, of several, trainings.

    Returns:
        the figures by column; what cannot be had is None.
    """
    runs = [outcome.run for outcome in outcomes]
    found = resampled_metrics(slides.labels, runs, patients=slides.patients, resamples=resamples)
    aucs = np.array([_auc(outcome, slides) for outcome in outcomes])
    record: dict[str, object] = {
        "runs": len(runs),
        **_with_interval("auc", found.values["auc"], found.spread["auc"], found.drawn),
        "sd_over_seeds": float(aucs.std(ddof=1)) if len(runs) > 1 else None,
        "validation_auc": float(np.mean([outcome.validation_auc for outcome in outcomes])),
        "parameters": cost.parameters,
        "gflop": cost.gflop,
        "peak_mib": max(outcome.peak_mib for outcome in outcomes),
        "training_s": float(np.mean([outcome.seconds[0] for outcome in outcomes])),
        "evaluating_s": float(np.mean([outcome.seconds[1] for outcome in outcomes])),
    }
    if np.asarray(runs[0].probabilities).shape[1] == 2:
        balanced = (found.values["recall"] + found.values["specificity"]) / 2
        spread = (found.spread["recall"] + found.spread["specificity"]) / 2
        record |= _with_interval("balanced_accuracy", balanced, spread, found.drawn)
    pairs = [(other, one) for one in outcomes for other in against if other.seed == one.seed]
    if pairs:
        record |= _difference(pairs, slides, resamples)
    return record


def _difference(pairs: Sequence[tuple[Outcome, Outcome]], slides: Slides, resamples: int) -> dict[str, float | None]:
    """Of the AUC, second less first, over patients (bootstrap) and over the trainings (t)."""
    firsts, seconds = ([outcome.run for outcome in side] for side in zip(*pairs, strict=True))
    found = compare(slides.labels, firsts, seconds, patients=slides.patients, resamples=resamples).metrics["auc"]
    record = {**_in_columns("difference", found.difference), "difference_p": found.p}
    if len(pairs) > 1:
        each = np.array([_auc(second, slides) - _auc(first, slides) for first, second in pairs])
        margin = float(student.ppf(0.975, len(pairs) - 1)) * float(each.std(ddof=1)) / len(pairs) ** 0.5
        record |= {"difference_t_low": each.mean() - margin, "difference_t_high": each.mean() + margin}
    return record


def _auc(outcome: Outcome, slides: Slides) -> float:
    return resampled_metrics(slides.labels, [outcome.run], resamples=1).values["auc"]


def _with_interval(name: str, value: float, spread: Floats, drawn: Drawn) -> dict[str, float | None]:
    return _in_columns(name, estimate(value, spread, drawn))


def _in_columns(name: str, found: Estimate) -> dict[str, float | None]:
    low, high = found.ci95 or (None, None)
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}
