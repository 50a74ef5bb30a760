"""A figure and its interval, or the reason why it has none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import Floats
from .score_interval import Ends

CI95_PERCENTILES = (2.5, 97.5)

FEWEST_UNITS = 10
"""Patients, or slides where no patient is known, below which no interval is given: the bootstrap draws from them alone."""

LEAST_USED = 0.99
"""Share of the resamples in which a figure must be defined to have an interval. With five patients of a class
0.7 % of them lack it, with four 1.8 % (exp(-5), exp(-4)): more would be a good part of the 2.5 % behind either end."""


TIE = 1e-12
"""Difference of two figures up to which they are equal: they are means of many terms, rounded in either order."""


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
        ci95: interval, by formula or of percentiles over the resamples; None where there is none.
        used: number of resamples in which the figure is defined.
        reason: why there is no interval; None where there is one.
    """

    value: float | None
    ci95: Ends | None
    used: int
    reason: str | None

    @classmethod
    def from_json(cls, stated: Mapping[str, Any], *, used: int, reason: str | None) -> "Estimate":
        """Read :meth:`to_json` again, and what is stated elsewhere."""
        low, high = stated["ci95"]
        return cls(stated["value"], None if low is None or high is None else (float(low), float(high)), used, reason)

    def to_json(self) -> dict[str, float | list[float | None] | None]:
        """The figure as it stands in ``metrics.json``: without an interval both of its ends are None."""
        return {"value": self.value, "ci95": list(self.ci95 or (None, None))}

    def in_words(self, *, sign: str = "") -> str:
        """The figure with its interval, or with the reason why it has none; ``sign`` "+" writes that of positive numbers, too."""
        if self.value is None:
            return "undefined"
        ends = self.ends_in_words(sign=sign)
        return f"{self.value:{sign}.3f} ({f'95 % interval {ends}' if ends else f'no interval: {self.reason}'})"

    def ends_in_words(self, *, sign: str = "") -> str:
        """Both ends of the interval; an empty text where there is none."""
        return "" if self.ci95 is None else f"{self.ci95[0]:{sign}.3f} to {self.ci95[1]:{sign}.3f}"


def is_defined_often(used: int, resamples: int) -> bool:
    """Whether a figure is defined in enough resamples to have an interval (`LEAST_USED`)."""
    return used >= max(1, LEAST_USED * resamples)


def estimate(
    value: float, spread: Floats, drawn: Drawn, *, ends: Ends | None = None, undefined: str = "undefined"
) -> Estimate:
    """Return a figure with its interval.

    Args:
        value: on the slides as they are; NaN where undefined.
        spread: (R,) on the resamples; NaN where undefined.
        drawn: what each resample drew.
        ends: of an interval by formula (`.score_interval`), in place of the percentiles; None: there is none.
        undefined: why the value is undefined, where it is.
    """
    usable = spread[np.isfinite(spread)]
    used, resamples = len(usable), len(spread)
    if not np.isfinite(value):
        return Estimate(None, None, used, undefined)
    reason = drawn.too_few
    if reason is None and not is_defined_often(used, resamples):
        reason = f"undefined in {resamples - used} of {resamples} resamples"
    if reason is not None:
        return Estimate(float(value), None, used, reason)
    low, high = ends or np.percentile(usable, CI95_PERCENTILES)
    return Estimate(float(value), (float(low), float(high)), used, None)


@dataclass(frozen=True)
class Bootstrap:
    """What the intervals of some figures were drawn from.

    Attributes:
        drawn: what each resample drew.
        resamples: number of resamples.
        degenerate: how many of them lack a class of the model; None where that says nothing.
    """

    drawn: Drawn
    resamples: int
    degenerate: int | None = None

    def to_json(self, figures: Mapping[str, Estimate]) -> dict[str, object]:
        """What a report says of them: all that, in how many resamples each figure is defined, and why some have no interval."""
        return {
            "resamples": self.resamples,
            "unit": self.drawn.unit,
            "units": self.drawn.units,
            "used": {name: found.used for name, found in figures.items()},
            "no_interval": reasons(figures),
            **({} if self.degenerate is None else {"degenerate": self.degenerate}),
        }


def reasons(figures: Mapping[str, Estimate]) -> dict[str, str]:
    """Return why figures have no interval, by the name of the figure."""
    return {name: found.reason for name, found in figures.items() if found.reason is not None}


def missing_in_words(figures: Mapping[str, Estimate]) -> str:
    """Say which figures have no interval, reason by reason; an empty text where all have one."""
    names_of: dict[str, list[str]] = {}
    for name, reason in reasons(figures).items():
        names_of.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in names_of.items())
