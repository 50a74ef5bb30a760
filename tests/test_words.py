"""The English of pages and public docstrings: short sentences, "per" for rates, a short README (CONTRIBUTING, section Words)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(REPO / "docs").rglob("*.md"),
        *(REPO / "integrations").glob("*/README.md"),
        REPO / "README.md",
        REPO / "CONTRIBUTING.md",
        REPO / "bundle" / "docs" / "README.md",
    ]
)
CONFIGS = sorted((REPO / "bundle" / "configs").rglob("*.yaml"))
SHOWN = sorted([REPO / "bundle" / "configs" / "metadata.json", *(REPO / "bundle" / "scripts").rglob("templates/*.*")])
"""What users read of the bundle besides: its metadata, and what pages and tables are filled into."""
MODULES = sorted((REPO / "bundle" / "scripts").rglob("*.py"))
BENCHMARKS = sorted((REPO / "benchmarks").glob("*.py"))
MAX_WORDS = 30
MAX_README_WORDS = 700
# no text: comments, blocks of commands
UNREAD = re.compile(r"<!--.*?-->|^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
CODE_OR_TARGET = re.compile(r"``?[^`]+``?|(?<=\])\([^)]*\)")
# what begins a paragraph of its own: an item of a list, an entry of Args
ITEM = re.compile(r" *(?:[-*]|\d+\.) | {4}\w+: ")
# a sentence ends at . ! ? : and at ;
END = re.compile(r"(?<=[.!?:])[*\")]*\s+(?=[A-Z*\[(\"])|;\s")
# a rate: ONE (or MANY) of THINGS for each OF
ONE = r"(?:an?|one|two|three|[\d.,]*\d)"
THING = (
    r"(?:attribute|batch|bin|cell|class|column|constant|curve|detection|feature|figure|file|folder|group|item|label|line|list|location|log"
    r"|lymph node|network|nucleus|number|page|patch|pixel|plane|polygon|position|process|row|score|slide|task|thread|value|weight)(?:e?s)?"
)
MANY = r"(?:bytes|classes|labels|loss|micrometres|ms|nuclei|patches|pixels|positives|s|slides|values)"
OF = (
    r"(?:level-0 |mask |1e\d )?(?:batch|bin|block|byte|call|cell|channel|class|colour|core|day|epoch|fold|folder|GPU|hour|image|item|level"
    r"|minute|name|nucleus|patch|patient|pixels?|place|process|region|resample|row|run|second|seed|side|slide|split|stage|step|study|thread"
    r"|tile|variant|view|worker)\b"
)
# what an entry of Args begins with: a small letter, or a name: one symbol (V, T, D'), an abbreviation (RGB), or one of these
NAMES = frozenset({"DSNet", "False", "Keras", "None", "S-CAE", "True"})
NAME = re.compile(r"[B-Z](?:'s?)?|[A-Z][A-Z0-9]+")
RATES = (
    re.compile(rf"\b{ONE} {THING} an? {OF}", re.IGNORECASE),  # one label a slide, a task a slide
    re.compile(rf"\b[\d,.]*\d an? {OF}"),  # 500 a second
    re.compile(rf"\b{MANY} an? {OF}", re.IGNORECASE),  # 12 s a slide, false positives a slide
)


def paragraphs(text: str) -> Iterator[str]:
    """Yield what is read as one piece: a paragraph, an item of a list; no tables, headings or blocks of commands."""
    gathered: list[str] = []
    for line in [*UNREAD.sub("", text).splitlines(), ""]:
        is_command = line.startswith("    ") and not gathered
        if is_command or not line.strip() or line.lstrip().startswith(("|", "#")) or ITEM.match(line):
            if gathered:
                yield CODE_OR_TARGET.sub("X", " ".join(gathered))
            gathered = [line.strip()] if ITEM.match(line) else []
        else:
            gathered.append(line.strip())


def long_sentences(text: str) -> list[str]:
    """Return the sentences of more than MAX_WORDS words."""
    return [
        sentence
        for paragraph in paragraphs(text)
        for sentence in END.split(paragraph)
        if len(sentence.split()) > MAX_WORDS
    ]


def rates_with_a(text: str) -> list[str]:
    """Return the rates that are said with "a" instead of "per", in tables and headings too."""
    words = " ".join(UNREAD.sub("", text).split())
    return [found[0] for rate in RATES for found in rate.finditer(words)]


def args_with_a_capital(source: str) -> list[str]:
    """Return the entries of Args whose first word has a capital letter, but is no name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _, _, after = (ast.get_docstring(node) or "").partition("Args:\n")
            entries = after.partition("\n\n")[0]
            for name, word in re.findall(r"^ {4}(\w+): ([\w'-]+)", entries, re.MULTILINE):
                if word[0].isupper() and word not in NAMES and not NAME.fullmatch(word):
                    found.append(f"{node.name}, {name}: {word}")
    return found


def public_docstrings(source: str) -> str:
    """Return the docstrings of a module, its public classes and its public functions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            is_public = isinstance(node, ast.Module) or not node.name.startswith("_")
            found.append((ast.get_docstring(node) or "") if is_public else "")
    return "\n\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_a_page_has_short_sentences_and_says_per(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not long_sentences(text), "split these sentences"
    assert not rates_with_a(text), "say `per`"


def test_configs_and_what_the_bundle_shows_say_per() -> None:
    found = {str(path.relative_to(REPO)): rates_with_a(path.read_text(encoding="utf-8")) for path in [*CONFIGS, *SHOWN]}
    assert not {path: rates for path, rates in found.items() if rates}


def test_public_docstrings_have_short_sentences_and_modules_say_per() -> None:
    found = {}
    for module in MODULES:
        text = module.read_text(encoding="utf-8")
        found[str(module.relative_to(REPO))] = long_sentences(public_docstrings(text)) + rates_with_a(text)
    assert not {module: sentences for module, sentences in found.items() if sentences}


def test_benchmarks_say_per() -> None:
    found = {module.name: rates_with_a(module.read_text(encoding="utf-8")) for module in BENCHMARKS}
    assert not {module: rates for module, rates in found.items() if rates}


def test_entries_of_args_begin_with_a_small_letter() -> None:
    found = {
        str(module.relative_to(REPO)): args_with_a_capital(module.read_text(encoding="utf-8")) for module in MODULES
    }
    assert not {module: entries for module, entries in found.items() if entries}


def test_the_readme_is_short() -> None:
    assert len((REPO / "README.md").read_text(encoding="utf-8").split()) <= MAX_README_WORDS
