"""The commands, files and outputs that the documentation shows.

Commands are what stands in blocks marked ``bash`` or ``sh``, in indented blocks, and in fenced blocks without a language whose first word
is a command. A comment may stand before a block::

    <!-- run by: tests/... -->    what runs these commands instead: a test, a page that has them too, or .ci/run
    <!-- run on: 2 machines -->   the block is run so many times at once
    <!-- run in: package -->      the folder that it is run in
    <!-- exits with 1 -->         the command is meant to end so
    <!-- file: data/a.csv -->     the reader writes this file
    <!-- shows: log -->           what the last block prints; or name a file that it wrote
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SHELL = ("bash", "sh", "console")
COMMANDS = {"python", "python3", "dsnet", "make", "torchrun", "pip", "pytest", "unzip", "monai-deploy", "curl"}
_FENCE = re.compile(r"^( *)(```+)([\w-]*)\n(.*?)^\1\2$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n|\n)+)")
_COMMENT = re.compile(r"<!-- (run by|run on|run in|exits with|file|shows):? (.+?) -->\s*$")


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
        """The words of each command, a loop's body once. Empty where the block holds none."""
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
        while words and (re.fullmatch(r"[A-Z_]+=\S*", words[0]) or words[0] in ("do", "time", "export")):
            words = words[1:]
        if words and words[0] not in ("for", "done", "alias"):
            yield tuple(words)
