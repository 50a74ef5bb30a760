"""Two requests compared, and their difference in words."""

from pathlib import Path

import pytest

from scripts.common.errors import RequestError
from scripts.common.same_request import difference, noted, refuse_another


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"a": 1}, {"a": 1.0}, ""),
        ({"a": (1, 2), "b": Path("x")}, {"a": [1, 2], "b": "x"}, ""),
        ({}, {"a": None, "b": {}}, ""),
        ({"a": 1}, {}, "a was 1, now null"),
        ({"a": "x" * 99}, {"a": True}, 'a was "' + "x" * 56 + "..., now true"),
        ({"o": {"n#m": 1, "k": {"z": 2}}}, {"o": {"n#m": 2, "k": {}}}, "o#k#z was 2, now null; o#n#m was 1, now 2"),
        ({str(n): 0 for n in range(6)}, {}, "; ".join(f"{n} was 0, now null" for n in range(4)) + "; and 2 more"),
    ],
)
def test_what_differs(before: dict[str, object], now: dict[str, object], told: str) -> None:
    assert difference(before, now) == told
    assert difference(noted(before), now) == told
    if told:
        with pytest.raises(RequestError) as caught:
            refuse_another("x/y", before, now, remedy="do z")
        assert str(caught.value) == f"x/y: made for another request ({told}); expected the same request: do z"
    else:
        refuse_another("x/y", before, now, remedy="do z")
