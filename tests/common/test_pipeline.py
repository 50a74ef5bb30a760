import threading
import time
from collections.abc import Iterator

import pytest

from scripts.common.pipeline import AHEAD, map_ahead


def test_results_come_in_order_whatever_finishes_first() -> None:
    def slow_when_even(item: int) -> int:
        time.sleep(0.02 * (item % 2 == 0))
        return item * item

    assert list(map_ahead(slow_when_even, range(20), threads=3)) == [item * item for item in range(20)]


def test_items_are_drawn_while_others_are_worked_on_but_not_without_bound() -> None:
    drawn: list[int] = []
    go_on = threading.Event()

    def items() -> Iterator[int]:
        for item in range(50):
            drawn.append(item)
            if len(drawn) == 2 + AHEAD:
                go_on.set()  # nothing is finished yet: without reading ahead this would never be reached
            yield item

    def wait(item: int) -> int:
        assert go_on.wait(5)
        return item

    results = map_ahead(wait, items(), threads=2)
    assert next(results) == 0
    assert len(drawn) == 2 + AHEAD
    assert list(results) == list(range(1, 50))


def test_the_threads_work_at_once() -> None:
    together = threading.Barrier(3, timeout=5)
    assert len(list(map_ahead(lambda _: together.wait(), range(3), threads=3))) == 3


@pytest.mark.parametrize("error", [ValueError("item"), KeyboardInterrupt()])
def test_an_error_of_an_item_is_raised_in_its_turn_and_ends_the_work(error: BaseException) -> None:
    done: list[int] = []

    def fail_at_three(item: int) -> int:
        if item == 3:
            raise error
        done.append(item)
        return item

    results = map_ahead(fail_at_three, range(1000), threads=1)
    with pytest.raises(type(error)):
        list(results)
    assert done[:3] == [0, 1, 2]
    assert len(done) < 10


def test_an_error_of_the_source_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(map_ahead(lambda item: item, items(), threads=2))
