from collections.abc import Callable

import pytest

from scripts.common.errors import RequestError
from scripts.scae.rate_search import Measured, chosen, search


def trials(
    density: Callable[[float], float], error: Callable[[float], float] = lambda rate: 0.01
) -> tuple[list[float], Callable[[float], Measured]]:
    tried: list[float] = []

    def try_rate(rate: float) -> Measured:
        tried.append(rate)
        return Measured(density(rate), error(rate), 1 - rate / 100, 1.0)

    return tried, try_rate


def test_finds_the_rate_of_the_prior() -> None:
    tried, try_rate = trials(lambda rate: 100 * (100 - rate))
    steps = list(search(try_rate, nuclei_per_mm2=1000, low=60, high=99, tolerance=0.02, max_steps=20))
    assert (steps[-1].verdict, steps[-1].outcome) == ("met", "met")
    assert steps[-1].sparsity_rate == pytest.approx(90, abs=0.2)
    assert tried[:3] == [60, 79.5, 89.25]
    assert chosen(steps, nuclei_per_mm2=1000) == steps[-1]


def test_a_large_error_turns_it_to_lower_rates() -> None:
    """Alone, the density would lead to 90; above 80 the error is too large."""
    _, try_rate = trials(lambda rate: 100 * (100 - rate), lambda rate: 0.01 if rate < 80 else 0.02)
    steps = list(search(try_rate, nuclei_per_mm2=1000, low=60, high=99, error_margin=0.5, max_steps=12))
    assert {step.outcome for step in steps} == {"too many: higher", "error too large: lower"}
    assert 79 < chosen(steps, nuclei_per_mm2=1000).sparsity_rate < 80


def test_a_smaller_error_met_later_tightens_the_bound() -> None:
    errors = iter([0.02, 0.01, 0.0105])
    _, try_rate = trials(lambda rate: 2000.0, lambda rate: next(errors))
    steps = list(search(try_rate, nuclei_per_mm2=1000, low=60, high=99, error_margin=0.1, max_steps=3))
    assert [step.largest_error for step in steps] == pytest.approx([0.022, 0.011, 0.011])
    assert chosen(steps, nuclei_per_mm2=1000) == steps[1]


def test_stops_where_the_lowest_rate_finds_too_few() -> None:
    tried, try_rate = trials(lambda rate: 10.0)
    steps = list(search(try_rate, nuclei_per_mm2=1000, low=60, high=99))
    assert tried == [60] and (steps[0].verdict, steps[0].reason) == ("lower", "too few")


def test_max_steps_ends_it() -> None:
    tried, try_rate = trials(lambda rate: 2000.0)
    list(search(try_rate, nuclei_per_mm2=1000, low=60, high=99, max_steps=4))
    assert len(tried) == 4


@pytest.mark.parametrize(
    "wrong", [{"low": 99.0}, {"high": 100.0}, {"nuclei_per_mm2": 0.0}, {"tolerance": 0.0}, {"max_steps": 0}]
)
def test_wrong_bounds_are_refused_before_anything_is_trained(wrong: dict[str, float]) -> None:
    tried, try_rate = trials(lambda rate: 1.0)
    with pytest.raises(RequestError, match=next(iter(wrong))):
        list(search(try_rate, **{"nuclei_per_mm2": 1000, "low": 60, "high": 99, **wrong}))  # type: ignore[arg-type]
    assert tried == []
