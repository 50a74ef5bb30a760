"""A figure and its bootstrap interval, or the reason why it has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import Floats

CI95_PERCENTILES = (2.5, 97.5)

FEWEST_UNITS = 10
"""Patients, or slides where no patient is known, below which no interval is given: the bootstrap draws from them alone."""

LEAST_USED = 0.99
"""Share of the resamples in which a figure must be defined to have an interval. With five patients of a class
0.7 % of them lack it, with four 1.8 % (exp(-5), exp(-4)): more would be a good part of the 2.5 % behind either end."""


@dataclass(frozen=True)
class Drawn:
    """What a bootstrap draws.

    Attributes:
        unit: "patient" or, where none is known, "slide".
        units: number of them.
    """

    unit: str
    units: int

    @property
    def too_few(self) -> str | None:
        """Why no figure has an interval, if so."""
        many = f"{self.units} {self.unit}{'' if self.units == 1 else 's'}"
        return f"{many}, expected {FEWEST_UNITS} or more" if self.units < FEWEST_UNITS else None


@dataclass(frozen=True)
class Estimate:
    """A figure.

    Attributes:
        value: on the slides as they are; None where undefined.
        ci95: percentile interval over the resamples; None where there is none.
        used: number of resamples in which the figure is defined.
        reason: why there is no interval; None where there is one.
    """

    value: float | None
    ci95: tuple[float, float] | None
    used: int
    reason: str | None

    def as_json(self) -> dict[str, Any]:
        """The figure as it stands in ``metrics.json``: without an interval both of its ends are None."""
        return {"value": self.value, "ci95": list(self.ci95 or (None, None))}


def estimate(value: float, spread: Floats, drawn: Drawn, *, undefined: str = "undefined") -> Estimate:
    """Return a figure with its interval.

    Args:
        value: on the slides as they are; NaN where undefined.
        spread: (R,) on the resamples; NaN where undefined.
        drawn: what each resample drew.
        undefined: why the value is undefined, where it is.
    """
    usable = spread[np.isfinite(spread)]
    used, resamples = len(usable), len(spread)
    if not np.isfinite(value):
        return Estimate(None, None, used, undefined)
    reason = drawn.too_few
    if reason is None and used < max(1, LEAST_USED * resamples):
        reason = f"undefined in {resamples - used} of {resamples} resamples"
    if reason is not None:
        return Estimate(float(value), None, used, reason)
    low, high = np.percentile(usable, CI95_PERCENTILES)
    return Estimate(float(value), (float(low), float(high)), used, None)


def described(drawn: Drawn, resamples: int, estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Say for a report what was drawn, in how many resamples each figure is defined, and why a figure has no interval."""
    return {
        "resamples": resamples,
        "unit": drawn.unit,
        "units": drawn.units,
        "used": {name: found.used for name, found in estimates.items()},
        "no_interval": {name: found.reason for name, found in estimates.items() if found.reason is not None},
    }


def in_words(figure: Mapping[str, Any], reason: str | None, *, sign: str = "") -> str:
    """Return a figure of a report with its interval or the reason for which it has none.

    Args:
        figure: as `Estimate.as_json` gives it.
        reason: its entry in ``no_interval``, if any.
        sign: "+" writes the sign of positive numbers, too.
    """
    if figure["value"] is None:
        return "undefined"
    value, ends = f"{figure['value']:{sign}.3f}", ends_in_words(figure["ci95"], sign=sign)
    return f"{value} (95 % interval {ends})" if ends else f"{value} (no interval: {reason})"


def ends_in_words(ends: Sequence[float | None], *, sign: str = "") -> str:
    """Return both ends of an interval; an empty text where there is none."""
    low, high = ends
    return "" if low is None or high is None else f"{low:{sign}.3f} to {high:{sign}.3f}"


def missing_in_words(reasons: Mapping[str, str]) -> str:
    """Say which figures have no interval, reason by reason; an empty text where all have one."""
    names_of: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_of.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in names_of.items())
