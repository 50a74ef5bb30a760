"""JSON files of ours that come back truncated, foreign or changed."""

from pathlib import Path

import pytest

from scripts.common import json_files
from scripts.common.errors import RequestError
from scripts.common.json_files import NONE, NUMBER, read_json

FIELDS = {"name": str, "figures.value": (*NUMBER, NONE), "on": bool, "count": int}
GOOD = '{"format": "x/1", "name": "a", "figures": {"value": 0.5}, "on": true, "count": 3}'


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(GOOD)
    assert read_json(tmp_path / "a.json", expected="x: do y", fields=FIELDS, format="x/1")["count"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (GOOD[:30], "not JSON"),
        ("", "not JSON"),
        ("\xff\xfe", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list"),
        (GOOD.replace("x/1", "z"), "format 'z', expected 'x/1'"),
        (GOOD.replace('"name": "a", ', ""), "has no name"),
        (GOOD.replace('{"value": 0.5}', "3"), "has no figures.value"),
        (GOOD.replace("0.5", '"0.5"'), "figures.value is '0.5'"),
        (GOOD.replace("0.5", "NaN"), "figures.value is 'nan'"),
        (GOOD.replace("3}", "true}"), "count is 'True'"),
        (GOOD.replace("true", "1"), "on is '1'"),
    ],
)
def test_others_are_refused_in_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RequestError, match=rf"a\.json: {message}.* x: do y$") as error:
        read_json(path, expected="x: do y", fields=FIELDS, format="x/1")
    assert "\n" not in str(error.value)


def test_json_of_ours_is_read_in_one_place() -> None:
    """Other than lines of a journal, the owner of a lock, and texts that are no files."""
    others = {
        "common/journal.py",
        "common/lock.py",
        "common/same_request.py",
        "encoding/embedding_file.py",
        "encoding/settings.py",
        "patches/dataset.py",
    }
    scripts = Path(json_files.__file__).parents[1]
    found = {str(path.relative_to(scripts)) for path in scripts.rglob("*.py") if "json.load" in path.read_text()}
    assert found == others | {"common/json_files.py"}
