"""What the runs of each method come to: AUC, balanced accuracy, the difference to DSNet, cost."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from ..evaluation.bootstrap import RESAMPLES, resampled_metrics
from ..evaluation.compare import compare
from ..evaluation.interval import estimate
from ..studies.outcomes import EvaluatedSlides, Outcome, columns_of, paired
from ..studies.runs import Spent
from .cost import Cost

COLUMNS = (
    "method", "title", "runs", "auc", "auc_low", "auc_high", "sd_over_seeds", "balanced_accuracy", "balanced_accuracy_low",
    "balanced_accuracy_high", "difference", "difference_low", "difference_high", "difference_p", "difference_t_low",
    "difference_t_high", "validation_auc", "parameters", "gflop", "peak_mib", "training_s", "evaluating_s", "paper_camelyon16",
    "paper_tcga_lusc",
)  # fmt: skip


def record_of(
    outcomes: Sequence[Outcome],
    slides: EvaluatedSlides,
    cost: Cost,
    spent: Sequence[Spent],
    *,
    against: Sequence[Outcome] = (),
    resamples: int = RESAMPLES,
) -> dict[str, object]:
    """Sum up one method's trainings.

    Args:
        outcomes: one per seed.
        slides: what they predict.
        cost: of its network.
        spent: by each training and its evaluation.
        against: the outcomes of the method that it is compared with; of seeds that both have.
        resamples: of the bootstrap, which draws patients and, of several, trainings.

    Returns:
        the figures by column; what cannot be had is None.
    """
    runs = [outcome.run for outcome in outcomes]
    found = resampled_metrics(slides.labels, runs, patients=slides.patients, resamples=resamples)
    record: dict[str, object] = {
        "runs": len(runs),
        **columns_of("auc", estimate(found.values["auc"], found.spread["auc"], found.drawn)),
        "sd_over_seeds": float(np.std([outcome.auc for outcome in outcomes], ddof=1)) if len(runs) > 1 else None,
        "validation_auc": float(np.mean([outcome.validation_auc for outcome in outcomes])),
        "parameters": cost.parameters,
        "gflop": cost.gflop,
        "peak_mib": max(one.peak_mib for one in spent),
        "training_s": float(np.mean([one.training_s for one in spent])),
        "evaluating_s": float(np.mean([one.evaluating_s for one in spent])),
    }
    if np.asarray(runs[0].probabilities).shape[1] == 2:
        balanced = (found.values["recall"] + found.values["specificity"]) / 2
        spread = (found.spread["recall"] + found.spread["specificity"]) / 2
        record |= columns_of("balanced_accuracy", estimate(balanced, spread, found.drawn))
    if pairs := paired(outcomes, against):
        record |= _difference(pairs, slides, resamples)
    return record


def _difference(
    pairs: Sequence[tuple[Outcome, Outcome]], slides: EvaluatedSlides, resamples: int
) -> dict[str, float | None]:
    """Of the AUC, first less second, over patients (bootstrap) and over the trainings (t)."""
    ours, theirs = ([outcome.run for outcome in side] for side in zip(*pairs, strict=True))
    found = compare(slides.labels, theirs, ours, patients=slides.patients, resamples=resamples).metrics["auc"]
    record = {**columns_of("difference", found.difference), "difference_p": found.p}
    if len(pairs) > 1:
        each = np.array([one.auc - other.auc for one, other in pairs])
        margin = float(student.ppf(0.975, len(pairs) - 1)) * float(each.std(ddof=1)) / len(pairs) ** 0.5
        record |= {"difference_t_low": each.mean() - margin, "difference_t_high": each.mean() + margin}
    return record
