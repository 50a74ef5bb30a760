"""The pages that promise name, for each promise, tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PAGES = ("docs/security.md", "docs/reliability.md")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def promises(page: str) -> list[tuple[str, str]]:
    """The rows of the table of a page that has the columns promise and held by."""
    text = (REPO / page).read_text(encoding="utf-8")
    table = text[text.index("| promise | held by |") :].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return [(promise.strip(), tests) for promise, tests in rows]


@cache
def names_of_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES)
def test_each_promise_is_held_by_tests_that_exist(page: str) -> None:
    rows = promises(page)
    assert len(rows) >= 10
    for promise, tests in rows:
        named = TEST.findall(tests)
        assert named and re.sub(TEST, "", tests).strip(" ,") == "", f"{page}: {promise}: what holds it?"
        for file, name in named:
            assert name in names_of_tests(REPO / file), f"{page}: {promise}: {file} has no {name}"
