"""Messages of many parts."""

from scripts.common.errors import first_of


def test_the_rest_is_counted() -> None:
    assert first_of(["a", "b"]) == "a; b"
    assert first_of(list("abcdef"), ", ", most=2) == "a, b, and 4 more"
