"""The binary search for the sparsity rate rho (III-B: "the optimal rho can be decided from a binary search")."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from ..common.errors import RequestError
from ..common.option_table import checked

_LOGGER = logging.getLogger(__name__)

Verdict = Literal["met", "higher", "lower"]
"""The prior is met, so the search ends; or it goes on at higher, or at lower rates."""

COLUMNS = (
    "step", "sparsity_rate", "nuclei_per_mm2", "error", "most_error", "active_share", "darkness", "low", "high", "verdict",
)  # fmt: skip
"""Of ``sparsity.csv``."""


@dataclass(frozen=True)
class Measured:
    """What an S-CAE trained at one rate does on a set of patches."""

    nuclei_per_mm2: float
    error: float  # mean squared error of the reconstruction through the hard mask
    active_share: float  # of the locations
    darkness: float  # of the active locations against their patches, in standard deviations; nuclei are over 0


@dataclass(frozen=True)
class Step:
    """One rate that was tried, a row of ``sparsity.csv``.

    Attributes:
        step: its number, from 0.
        sparsity_rate: the rate, in percent.
        nuclei_per_mm2: detected nuclei per area.
        error: mean squared error of the reconstruction.
        largest_error: that it could have.
        active_share: share of the locations that are active.
        darkness: of the active locations, see :class:`Measured`.
        low: lowest rate that is searched after this step, in percent.
        high: highest rate that is searched after this step, in percent.
        verdict: whether the search ends here, else on which side of the rate it goes on.
        reason: of the verdict; empty where the prior is met.
    """

    step: int
    sparsity_rate: float
    nuclei_per_mm2: float
    error: float
    largest_error: float
    active_share: float
    darkness: float
    low: float
    high: float
    verdict: Verdict
    reason: str

    @property
    def outcome(self) -> str:
        """Reason and verdict, as the log and ``sparsity.csv`` state them."""
        return f"{self.reason}: {self.verdict}" if self.reason else self.verdict

    def cells(self) -> dict[str, object]:
        """The step by the names of `COLUMNS`."""
        values = asdict(self) | {"most_error": self.largest_error, "verdict": self.outcome}
        return {name: values[name] for name in COLUMNS}


def search(
    try_rate: Callable[[float], Measured],
    *,
    nuclei_per_mm2: float,
    low: float,
    high: float,
    error_margin: float = 0.5,
    tolerance: float = 0.05,
    max_steps: int = 7,
) -> Iterator[Step]:
    """Search for the rate whose detected nuclei per area meet a prior, among those that reconstruct well enough.

    Few active locations find few nuclei and reconstruct worse, so both decide on which side to go on. A rate with too large an
    error or too few nuclei is too high; one with too many nuclei is too low. The lowest rate is tried first; its error, and any
    smaller one met on the way, is what others are compared with.

    Args:
        try_rate: trains and measures.
        nuclei_per_mm2: the prior.
        low: lowest rate, in percent.
        high: highest rate, in percent.
        error_margin: an error may exceed the smallest one by this share.
        tolerance: the search ends where the density is this close to the prior, as a share of it.
        max_steps: most rates tried, the lowest included.

    Yields:
        A step as soon as its rate was measured.

    Raises:
        RequestError: a value outside its range.
    """
    for name, value in (
        ("low", low),
        ("high", high),
        ("nuclei_per_mm2", nuclei_per_mm2),
        ("error_margin", error_margin),
        ("tolerance", tolerance),
        ("max_steps", max_steps),
    ):
        checked(name, value)
    if low >= high:
        raise RequestError(f"low {low}, high {high}: expected low under high: correct --low or --high")
    steps: list[Step] = []
    rate = low
    while True:
        measured = try_rate(rate)
        largest_error = (1 + error_margin) * min([measured.error, *(step.error for step in steps)])
        verdict, reason = _judge(
            measured, nuclei_per_mm2=nuclei_per_mm2, largest_error=largest_error, tolerance=tolerance
        )
        if verdict == "higher":
            low = rate
        elif verdict == "lower":
            high = rate
        step = Step(
            step=len(steps),
            sparsity_rate=rate,
            nuclei_per_mm2=measured.nuclei_per_mm2,
            error=measured.error,
            largest_error=largest_error,
            active_share=measured.active_share,
            darkness=measured.darkness,
            low=low,
            high=high,
            verdict=verdict,
            reason=reason,
        )
        steps.append(step)
        _LOGGER.info(
            "step %d: rho %.2f: %.0f nuclei/mm2, error %.5f (at most %.5f): %s",
            *(step.step, rate, measured.nuclei_per_mm2, measured.error, largest_error, step.outcome),
        )
        if measured.darkness <= 0:
            _LOGGER.warning(
                "step %d: what is active is lighter than its surroundings, so it is not nuclei that are counted",
                step.step,
            )
        yield step
        # Where low equals high, the lowest rate was already too high.
        if verdict == "met" or low == high or len(steps) == max_steps:
            return
        rate = (low + high) / 2


def _judge(measured: Measured, *, nuclei_per_mm2: float, largest_error: float, tolerance: float) -> tuple[Verdict, str]:
    """Say on which side of the rate the search goes on, and why; the reason is empty where the prior is met."""
    if measured.error > largest_error:
        return "lower", "error too large"
    if abs(measured.nuclei_per_mm2 - nuclei_per_mm2) <= tolerance * nuclei_per_mm2:
        return "met", ""
    if measured.nuclei_per_mm2 < nuclei_per_mm2:
        return "lower", "too few"
    return "higher", "too many"


def chosen(steps: list[Step], *, nuclei_per_mm2: float) -> Step:
    """Return the step whose density is nearest to the prior.

    Only steps count whose error is within the tightest bound that the search reached; it tightens with each smaller error.
    """
    bound = min(step.largest_error for step in steps)
    return min(
        (step for step in steps if step.error <= bound), key=lambda step: abs(step.nuclei_per_mm2 - nuclei_per_mm2)
    )
