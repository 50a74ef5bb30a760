import pytest

from scripts.common.errors import RequestError
from scripts.slides.labels import parse_word, require_one_spelling, sorted_words


@pytest.mark.parametrize(
    "cell",
    ["", "  ", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "none", "-", "#N/A", "#NV", "<NA>", "."],
)
def test_what_stands_for_nothing(cell: str) -> None:
    assert parse_word(cell) is None


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ("1.0", "1"),
        ("10.00", "10"),
        ("1" * 5000 + ".0", "1" * 5000 + ".0"),
        ("2.", "2"),
        ("-1.0", "-1"),
        ("-0.0", "0"),
        ("01", "01"),
        ("0.5", "0.5"),
        (" tumor ", "tumor"),
        ("1.0a", "1.0a"),
    ],
)
def test_a_word(cell: str, word: str) -> None:
    assert parse_word(cell) == word


def test_numbers_are_sorted_by_value_and_names_by_the_alphabet() -> None:
    assert sorted_words({"10", "2", "0", "1"}) == ["0", "1", "2", "10"]
    assert sorted_words({"10", "-2", "2.5"}) == ["-2", "2.5", "10"]
    assert sorted_words({"tumour", "normal", "10"}) == ["10", "normal", "tumour"]
    assert sorted_words({"Tumor", "normal"}) == ["normal", "Tumor"]
    assert sorted_words({"b\u00f6sartig", "Zyste", "bunt"}) == ["b\u00f6sartig", "bunt", "Zyste"]


@pytest.mark.parametrize(
    "pair",
    [
        ("Tumor", "tumor"),
        ("in situ", "In  Situ"),
        ("gru\u0308n", "gr\u00fcn"),
        ("01", "1"),
        ("0.50", "0.5"),
        ("+1", "1"),
    ],
)
def test_two_spellings_of_a_word_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(RequestError, match=r"t\.csv: column label has .* and .*, which differ in spelling alone"):
        require_one_spelling(["x", *pair], "label", "t.csv", numbers=True)


def test_other_words_are_words_of_their_own() -> None:
    require_one_spelling(["tumor", "tumour", "tumor 1", "tumor1", "tumor"], "label", "t.csv", numbers=True)
    require_one_spelling(["01", "1"], "patient", "t.csv", numbers=False)
