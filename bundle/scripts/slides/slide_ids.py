"""What slides are called (docs/decisions/0014): from the path as written, never from what a link leads to."""

import csv
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ..common.errors import RequestError
from ..common.names import MAX_NAME_BYTES, elided, name_fault, require_plain_name
from .slide_search import FOREIGN_SUFFIXES, SLIDE_SUFFIXES

_NOT_UTF8 = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class KnownIds:
    """The ids that a folder of embeddings knows.

    Attributes:
        names: ids that have an embedding.
        of_slide: ids by :func:`place_of` the slide, as the folder's manifest tells them.
    """

    names: frozenset[str] = frozenset()
    of_slide: dict[str, str] = field(default_factory=dict)


NOTHING_KNOWN = KnownIds()


def known_ids(folder: str | Path) -> KnownIds:
    """Read what slides are called in a folder of embeddings; what cannot be read there tells nothing."""
    folder = Path(folder)
    names = frozenset(path.stem for path in folder.glob("[!.]*.h5"))
    of_slide: dict[str, str] = {}
    for manifest in sorted(folder.glob("manifest*.csv")):
        with suppress(OSError):
            rows = manifest_rows(manifest)
            of_slide |= {
                place_of(folder / row["slide"]): row["slide_id"] for row in rows if name_fault(row["slide_id"]) is None
            }
    return KnownIds(names, of_slide)


def manifest_rows(manifest: Path) -> list[dict[str, str]]:
    """Read the rows of a manifest that name a slide and its id; none where it is missing or is not one.

    Raises:
        OSError: it cannot be read.
    """
    if not manifest.is_file():
        return []
    with open(manifest, newline="", encoding="utf-8", errors="replace") as file, suppress(csv.Error):
        rows = ((row, row.get("slide"), row.get("slide_id")) for row in csv.DictReader(file))
        return [row for row, slide, slide_id in rows if slide and slide_id and "\0" not in slide + slide_id]
    return []


def place_of(slide: str | Path) -> str:
    """Return where a slide lies, the same from wherever it is looked at: its own name, a link or not, in its real folder."""
    folder, name = os.path.split(slide)
    return os.path.join(os.path.realpath(folder), name)


def stem_of(path: Path) -> str:
    """Return a slide's own name: its file's, without the suffix of a slide.

    Other dots stay (``TCGA-AB.<uuid>``, listed without a suffix, is a whole name). A byte that is no UTF-8 becomes ``%XX``.
    """
    known = path.suffix.lower() in SLIDE_SUFFIXES | FOREIGN_SUFFIXES
    name = (path.stem if known else path.name).replace("\\", "_")
    return _NOT_UTF8.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def distinct_ids(
    paths: Sequence[Path], given: Sequence[str | None] | None = None, known: KnownIds = NOTHING_KNOWN
) -> list[str]:
    """Return an id for each slide, no two of them the same but for case.

    An id that is given stays, and so does that under which the folder knows the path. Any other is the file's stem; where slides
    share it, the suffix follows (same folder) or as many of their parent folders as it takes stand before it. Where that is too
    long for the names of outputs, a hash stands for its end.

    Args:
        paths: the slides, as written.
        given: ids of the column ``slide_id``; None where a slide has none.
        known: what the folder of their outputs knows.

    Raises:
        RequestError: an id is given twice, names no file, or cannot be told from another.
    """
    given = given or [None] * len(paths)
    if repeated := _repeated(given):
        first, again = repeated[0][:2]
        raise RequestError(
            f"{paths[again]}: slide_id {elided(str(given[again]))!r} is that of {paths[first]} too, expected another for each "
            "slide (capitals do not count): correct the column slide_id"
        )
    before = [known.of_slide.get(place_of(path)) if known.of_slide else None for path in paths]
    written = [_Written(os.path.abspath(path.parent), stem_of(path), path.suffix) for path in paths]
    ids = _chosen(written, given, before, known)
    for path, name in zip(paths, ids, strict=True):
        if name_fault(name) is not None:
            require_plain_name(name, elided(str(path)))
    if repeated := _repeated(ids):
        same = ", ".join(str(paths[place]) for place in sorted(chain(*repeated)))
        raise RequestError(
            f"{same}: their outputs would have one name, expected distinct names: rename a file, or name them in the column "
            "slide_id of a table"
        )
    return ids


class _Written(NamedTuple):
    """A slide's path as it is written, in the parts that names are made of."""

    folder: str
    stem: str
    suffix: str

    @property
    def parents(self) -> list[str]:
        """Names of the folders above it, the nearest last."""
        return [stem_of(Path(name)) for name in Path(self.folder).parts[1:]]


def _chosen(
    written: Sequence[_Written], given: Sequence[str | None], before: Sequence[str | None], known: KnownIds
) -> list[str]:
    """What is given stays, then what a slide had before, unless others have it too; the rest is derived."""
    ids = [mine or name for mine, name in zip(given, before, strict=True)]
    counts = Counter(_same(name) for name in ids if name)
    ids = [mine or (name if name and counts[_same(name)] == 1 else None) for mine, name in zip(given, ids, strict=True)]
    free = [slide for slide, name in zip(written, ids, strict=True) if name is None]
    names = zip(free, _derived(free, {_same(name) for name in ids if name}), strict=True)
    derived = (_with_embedding(_fitting(name), slide, known) for slide, name in names)
    return [next(derived) if name is None else name for name in ids]


def _derived(slides: Sequence[_Written], taken: set[str]) -> list[str]:
    """Stems, told apart where they are shared with each other or with what is taken."""
    beside = Counter(slide[:2] for slide in slides)
    ids = [
        f"{slide.stem}_{slide.suffix[1:]}" if slide.suffix and beside[slide[:2]] > 1 else slide.stem for slide in slides
    ]
    parents = [slide.parents for slide in slides]
    for depth in range(max((len(names) for names in parents), default=0)):
        counts = Counter([*taken, *(_same(name) for name in ids)])
        if max(counts.values(), default=0) <= 1:
            break
        ids = [
            f"{names[-1 - depth]}_{name}" if counts[_same(name)] > 1 and depth < len(names) else name
            for name, names in zip(ids, parents, strict=True)
        ]
    return ids


def _fitting(name: str) -> str:
    """``name``, its end replaced by eight digits of its hash where it has more bytes than an id may have."""
    content = name.encode()
    if len(content) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(content).hexdigest()[:8]
    return content[: MAX_NAME_BYTES - len(digest) - 1].decode(errors="ignore") + f"_{digest}"


def _with_embedding(name: str, slide: _Written, known: KnownIds) -> str:
    """``name``, or where it has no embedding and one with parent folders before it has, the latter."""
    if name in known.names or not known.names:
        return name
    slide_of = {slide_id: Path(path) for path, slide_id in known.of_slide.items()}
    longer = name
    for folder in reversed(slide.parents):
        longer = f"{folder}_{longer}"
        # of this slide, not of folder_name.tif
        if longer in known.names and (longer not in slide_of or stem_of(slide_of[longer]) == slide.stem):
            return longer
    return name


def _same(name: str) -> str:
    """What is equal for names that one file system or another takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _repeated(names: Sequence[str | None]) -> list[list[int]]:
    """Return the places of each name that stands at several."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name:
            places.setdefault(_same(name), []).append(place)
    return [found for found in places.values() if len(found) > 1]
