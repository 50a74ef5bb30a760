"""How often a 95 % interval holds the truth, in simulated test sets: the tables of docs/statistics.md.

    python benchmarks/interval_coverage.py                  # a minute on one core

Sensitivity: 0.9 of the positive slides are called positive, beside 30 negative ones. Slides of a patient are alike by the intraclass
correlation: at 0 they have nothing in common, at 1 all are right or all wrong. AUC: scores of both classes are normal, so far apart
that the true AUC is the one given. ``bootstrap`` are the percentiles of the resamples alone, ``ours`` is what ``evaluating`` writes.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.evaluation.bootstrap import RESAMPLES, Run, resampled_metrics
from scripts.evaluation.interval import CI95_PERCENTILES

SHARE, NEGATIVES, THRESHOLD = 0.9, 30, 0.5
OF_PATIENTS = ((6, 1, 0.0), (20, 1, 0.0), (10, 4, 0.0), (10, 4, 0.3), (10, 4, 1.0))
"""Positive patients, slides of each, intraclass correlation."""

OF_AUC = tuple((*sizes, auc) for sizes in ((6, 54), (20, 20)) for auc in (0.9, 0.95, 0.98))
"""Positive slides, negative slides, true AUC."""

Simulated = tuple[np.ndarray, np.ndarray, list[str]]
"""Labels, P(class 1) and patients."""


def called(rng: np.random.Generator, patients: int, slides: int, correlation: float) -> Simulated:
    """Positive slides, each called positive or not, and negative slides that are all called right."""
    of_patient = np.full(patients, SHARE)
    if correlation == 1:
        of_patient = (rng.random(patients) < SHARE).astype(float)
    elif correlation:
        of_patient = rng.beta(*(share * (1 / correlation - 1) for share in (SHARE, 1 - SHARE)), patients)
    positive = rng.random(patients * slides) < np.repeat(of_patient, slides)
    names = [f"p{index // slides}" for index in range(patients * slides)] + [f"n{index}" for index in range(NEGATIVES)]
    labels = np.r_[np.ones(len(positive), dtype=int), np.zeros(NEGATIVES, dtype=int)]
    return labels, np.r_[np.where(positive, 0.9, 0.1), np.full(NEGATIVES, 0.1)], names


def scored(rng: np.random.Generator, positives: int, negatives: int, auc: float) -> Simulated:
    """Slides of one patient each, whose scores have that AUC."""
    apart = norm.ppf(auc) * 2**0.5
    scores = np.r_[rng.normal(apart, 1, positives), rng.normal(0, 1, negatives)]
    labels = np.r_[np.ones(positives, dtype=int), np.zeros(negatives, dtype=int)]
    return labels, norm.cdf(scores - apart / 2), [str(index) for index in range(len(labels))]


def covered(draw: Callable[[], Simulated], metric: str, true: float, *, sets: int, resamples: int) -> list[str]:
    """Return the share of sets whose interval holds the true value, of the bootstrap's and of ours."""
    inside = np.zeros(2)
    for seed in range(sets):
        labels, p, patients = draw()
        run = Run(np.stack([1 - p, p], axis=1), THRESHOLD)
        found = resampled_metrics(labels, [run], patients=patients, resamples=resamples, seed=seed)
        plain = np.nanpercentile(found.spread[metric], CI95_PERCENTILES)
        low, high = found.ends.get(metric, tuple(plain))
        inside += plain[0] <= true <= plain[1], low <= true <= high
    return [f"{share:.0%}" for share in inside / sets]


def main() -> None:
    """Simulate, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    given = parser.parse_args()
    sizes = {"sets": given.sets, "resamples": given.resamples}
    rng = np.random.default_rng(0)
    lines = ["| positive patients | slides of each | correlation | bootstrap | ours |", "|---|---|---|---|---|"]
    for patients, slides, correlation in OF_PATIENTS:
        found = covered(lambda: called(rng, patients, slides, correlation), "recall", SHARE, **sizes)
        lines.append(f"| {patients} | {slides} | {correlation:g} | {' | '.join(found)} |")
    lines += ["", "| positive slides | negative slides | true AUC | bootstrap | ours |", "|---|---|---|---|---|"]
    for positives, negatives, auc in OF_AUC:
        found = covered(lambda: scored(rng, positives, negatives, auc), "auc", auc, **sizes)
        lines.append(f"| {positives} | {negatives} | {auc:g} | {' | '.join(found)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
