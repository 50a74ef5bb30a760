"""What holds of any table: read as it was written, or refused in one line that names it; for what hypothesis draws."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.common.errors import RequestError
from scripts.slides.columns import COLUMNS, near_misses, require_slide_columns
from scripts.slides.labels import parse_word, sorted_words
from scripts.slides.slide_ids import distinct_ids
from scripts.slides.table import copy_table, read_slides

FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)
NAMES = st.text(st.sampled_from("abcXYZ019 _-.,;'\"%片é"), min_size=1, max_size=12).filter(
    lambda name: name.strip(" .") != ""
)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, str]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=lambda name: name.strip().casefold()))
    return [
        {
            "slide": f"{name.strip()}.tif",
            "label": draw(st.sampled_from(["tumor", "normal", "NA", "", "1.0"])),
            "patient": draw(st.sampled_from(["", f"p{number}", "-"])),
            "note": draw(WORDS),
        }
        for number, name in enumerate(names)
    ]


def written(path: Path, rows: list[dict[str, str]], *, ends: str = "\n") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator=ends)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())
    return path


@FEW
@given(tables(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_table_is_read_as_it_was_written(tmp_path: Path, rows: list[dict[str, str]], ends: str, marked: bool) -> None:
    path = written(tmp_path / "slides.csv", rows, ends=ends)
    if marked:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    read = read_slides(path)
    assert [row.path.name for row in read] == [row["slide"] for row in rows]
    assert [row.label for row in read] == [parse_word(row["label"]) for row in rows]
    assert [row.patient for row in read] == [parse_word(row["patient"]) for row in rows]
    assert len({row.slide_id.casefold() for row in read}) == len(rows), "each slide has a name of its own"


@FEW
@given(tables())
def test_a_copy_elsewhere_says_the_same(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    path = written(tmp_path / "slides.csv", rows)
    (tmp_path / "other").mkdir(exist_ok=True)
    copy = tmp_path / "other" / "copy.csv"
    copy_table(path, copy, {"split": ["train"] * len(rows)})
    for before, after in zip(read_slides(path), read_slides(copy), strict=True):
        assert (after.slide_id, after.label, after.patient) == (before.slide_id, before.label, before.patient)
        assert after.path.resolve() == before.path.resolve() and after.split == "train"


@FEW
@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "slides.csv"
    path.write_bytes(content)
    try:
        assert read_slides(path)
    except RequestError as error:
        assert "slides.csv" in str(error) and "\n" not in str(error).strip()


@FEW
@given(tables(), st.integers(0, 10**6), st.sampled_from([",", '"', "\n", "\r", "\0", ";", "\t", "\x1a"]))
def test_a_sign_more_is_read_or_refused(tmp_path: Path, rows: list[dict[str, str]], place: int, sign: str) -> None:
    path = written(tmp_path / "slides.csv", rows)
    text = path.read_bytes().decode()
    place %= len(text)
    path.write_bytes((text[:place] + sign + text[place:]).encode())
    try:
        read = read_slides(path)
    except RequestError as error:
        assert "slides.csv" in str(error) or "tif" in str(error)
    else:
        assert len(read) <= len(rows) + 1


@FEW
@given(st.lists(WORDS, min_size=1, max_size=6))
def test_a_header_is_taken_or_refused_in_one_way(names: list[str]) -> None:
    cells = [name.strip() for name in names]
    try:
        require_slide_columns(cells, "t.csv")
    except RequestError as error:
        assert str(error).startswith("t.csv: ")
    else:
        assert "slide" in cells and len(set(cells)) == len(cells) and not near_misses(cells)


@FEW
@given(st.permutations(COLUMNS), st.lists(st.sampled_from(["note", "site", "age"]), unique=True))
def test_our_columns_are_never_near_misses_of_each_other(columns: list[str], more: list[str]) -> None:
    require_slide_columns([*columns, *more], "t.csv")


@FEW
@given(WORDS)
def test_a_word_read_twice_is_the_same(word: str) -> None:
    read = parse_word(word)
    assert read is None or (parse_word(read) == read and read == read.strip())
    assert parse_word(f"  {word}\t") == read


@FEW
@given(st.sets(st.integers(-1000, 1000), min_size=1))
def test_numbers_are_sorted_by_value(numbers: set[int]) -> None:
    assert [int(word) for word in sorted_words(map(str, numbers))] == sorted(numbers)


@FEW
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "siteA", "Ünï"]), st.sampled_from(["1", "01", "x.y", "片", "CON"])),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_ids_do_not_depend_on_the_order_and_are_distinct(places: list[tuple[str, str]]) -> None:
    paths = [Path(folder) / f"{name}.tif" for folder, name in places]
    try:
        ids = dict(zip(paths, distinct_ids(paths, [None] * len(paths)), strict=True))
    except RequestError:
        pytest.fail("paths that differ have names that differ")
    assert len({name.casefold() for name in ids.values()}) == len(paths)
    assert dict(zip(paths[::-1], distinct_ids(paths[::-1], [None] * len(paths)), strict=True)) == ids
