"""The commands, files and outputs that the documentation shows.

Commands are what stands in blocks marked ``bash`` or ``sh``, in indented blocks, and in fenced blocks without a language whose first word
is a command. A comment may stand before a block::

    <!-- not run: reason -->      commands that need what a test machine has not, or that another test runs
    <!-- exits with 1 -->         the last command is meant to end so
    <!-- file: data/a.csv -->     the reader writes this file
    <!-- shows: log -->           what the last command prints; or name a file that it wrote
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
DSNET = "python -m monai.bundle run --bundle_root bundle"
SHELL = ("bash", "sh", "console")
COMMANDS = {"python", "python3", "dsnet", "make", "torchrun", "pip", "pytest", "unzip", "monai-deploy", "curl"}
_FENCE = re.compile(r"^( *)(```+)([\w-]*)\n(.*?)^\1\2$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n|\n)+)")
_COMMENT = re.compile(r"<!-- (not run|exits with|file|shows):? (.+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        path: the page, in the repository.
        line: where the block begins.
        language: as the page says; ``bash`` for indented blocks.
        text: its content.
        comment: kind and value of the comment before it, or empty.
    """

    path: str
    line: int
    language: str
    text: str
    comment: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def commands(self) -> list[tuple[str, ...]]:
        """The words of each command, ``dsnet`` written out; a loop's body counts once. Empty where the block holds none."""
        commands = list(_commands(self.text)) if self.language in ("", *SHELL) else []
        is_shell = self.language in SHELL or (commands and commands[0][0].rpartition("/")[2] in COMMANDS)
        return commands if is_shell else []

    def says(self, kind: str) -> str:
        """The value of the comment before the block, if it is of this kind."""
        return self.comment[1] if self.comment[0] == kind else ""


def pages() -> list[Path]:
    """Every page of the documentation, wherever it lies."""
    return [
        *sorted(REPO.glob("*.md")),
        *sorted((REPO / "docs").rglob("*.md")),
        REPO / "bundle" / "docs" / "README.md",
        *sorted(REPO.glob("integrations/*/README.md")),
    ]


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    return list(blocks_in(path.read_text(encoding="utf-8"), path.relative_to(REPO).as_posix()))


def blocks_in(text: str, name: str) -> Iterator[Block]:
    """Yield the blocks of a text in Markdown."""
    text = f"{text}\n"
    fenced = [(match.start(), match[3], match[4]) for match in _FENCE.finditer(text)]
    outside = _FENCE.sub(lambda match: re.sub(r"[^\n]", "~", match[0]), text)
    indented = [(match.start(), "bash", match[1]) for match in _INDENTED.finditer(outside) if match[1].strip()]
    for start, language, content in sorted([*fenced, *indented]):
        comment = _COMMENT.search(text[:start])
        yield Block(
            name, text[:start].count("\n") + 1, language, content, (comment[1], comment[2]) if comment else ("", "")
        )


def _commands(content: str) -> Iterator[tuple[str, ...]]:
    for line in re.sub(r" *\\\n *", " ", content).splitlines():
        try:
            words = shlex.split(re.sub(r"(^|\s)#.*", "", line))
        except ValueError:  # no shell
            words = line.split()
        words = [re.sub(r"^\[(--.+?)\]?$", r"\1", word) for word in words]  # [--option] that may be given
        while words and (re.fullmatch(r"[A-Z_]+=\S*", words[0]) or words[0] in ("do", "time", "export")):
            words = words[1:]
        if not words or words[0] in ("for", "done", "alias"):
            continue
        if words[0] == "dsnet":
            words = [*shlex.split(DSNET), *words[1:]]
        yield tuple(word for word in words if word != "...")
