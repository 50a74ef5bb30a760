"""Names that become names of files."""

import pytest

from scripts.common.errors import RequestError
from scripts.common.names import MAX_NAME_BYTES, elided, printable, require_plain_name


@pytest.mark.parametrize(
    "name", ["a", "a b", "...", "100% #1?", "片段", "new\nline", "-dash", "$x", "a" * MAX_NAME_BYTES]
)
def test_a_plain_name_passes_as_it_is(name: str) -> None:
    assert require_plain_name(name, "t.csv") == name


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (".", "means a folder"),
        ("..", "means a folder"),
        ("../a", "a slash"),
        ("/etc/passwd", "a slash"),
        ("a\\b", "a backslash"),
        ("a\0", "a NUL"),
        ("a" * (MAX_NAME_BYTES + 1), "251 bytes"),
        ("片" * 84, "252 bytes"),
    ],
)
def test_what_leaves_the_folder_or_names_no_file_is_refused(name: str, fault: str) -> None:
    with pytest.raises(RequestError, match=fault) as error:
        require_plain_name(name, "t.csv, line 2")
    assert str(error.value).startswith("t.csv, line 2: ") and "column slide_id" in str(error.value)
    assert len(str(error.value)) < 300


def test_a_long_name_is_quoted_in_part() -> None:
    assert elided("a" * 100 + "b" * 100) == "a" * 30 + "..." + "b" * 30


def test_a_path_that_is_not_utf8_can_be_printed() -> None:
    assert printable("é/M\udcfcller.tif") == "é/M\\udcfcller.tif"
