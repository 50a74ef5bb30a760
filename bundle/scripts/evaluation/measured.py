"""The metrics of an evaluation with their intervals: as a value, and as the content of ``metrics.json``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.boundary import file_boundary
from ..common.json_files import NONE, NUMBER, Kind, read_json
from ..common.option_table import OPTIONS
from ..common.option_types import read_as
from .interval import Bootstrap, Drawn, Estimate, reasons
from .metrics import METRICS

_FIELDS: dict[str, Kind] = {
    "n_positive": (int, NONE),
    "n_negative": (int, NONE),
    "threshold": (*NUMBER, NONE),
    "threshold_from": (str, NONE),
    "seed": int,
    "bootstrap.resamples": int,
    "bootstrap.unit": str,
    "bootstrap.units": int,
    "bootstrap.no_interval": dict,
    **{f"bootstrap.used.{name}": int for name in METRICS},
    **{f"{name}.value": (*NUMBER, NONE) for name in METRICS},
    **{f"{name}.ci95": list for name in METRICS},
}


@dataclass(frozen=True)
class Metrics:
    """How good some classified slides are.

    Attributes:
        figures: by the names of `METRICS`.
        bootstrap: what their intervals were drawn from.
        seed: of the bootstrap.
        threshold: decision threshold on P(class 1); None for more than two classes, or where each slide had its own.
        threshold_from: where it comes from, such as "val".
        n_positive: slides of class 1 of two.
        n_negative: slides of class 0 of two.
    """

    figures: Mapping[str, Estimate]
    bootstrap: Bootstrap
    seed: int
    threshold: float | None
    threshold_from: str | None
    n_positive: int | None
    n_negative: int | None

    def __getitem__(self, name: str) -> Estimate:
        return self.figures[name]

    @property
    def no_interval(self) -> dict[str, str]:
        """Why figures have no interval, by their names."""
        return reasons(self.figures)

    def to_json(self) -> dict[str, object]:
        """The content of ``metrics.json``."""
        return {
            **{name: self.figures[name].to_json() for name in METRICS},
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "seed": self.seed,
            "bootstrap": self.bootstrap.to_json(self.figures),
        }


def read_metrics(path: Path, *, expected: str) -> Metrics:
    """Read ``metrics.json``.

    Args:
        path: the file.
        expected: what wrote it and what to do, see :func:`..common.json_files.read_json`.

    Raises:
        RequestError: it is missing, or is not what an evaluation writes.
    """
    content = read_json(path, expected=expected, fields=_FIELDS)
    drawn = content["bootstrap"]
    with file_boundary(path, "not metrics", expected):
        for name, number in (("resamples", drawn["resamples"]), ("seed", content["seed"])):
            read_as(OPTIONS[name], name, number)  # with which others are drawn again
        figures = {
            name: Estimate.from_json(content[name], used=drawn["used"][name], reason=drawn["no_interval"].get(name))
            for name in METRICS
        }
    return Metrics(
        figures=figures,
        bootstrap=Bootstrap(Drawn(drawn["unit"], drawn["units"]), drawn["resamples"], drawn.get("degenerate")),
        **{name: content[name] for name in ("seed", "threshold", "threshold_from", "n_positive", "n_negative")},
    )
