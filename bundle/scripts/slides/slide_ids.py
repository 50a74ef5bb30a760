"""What slides are called (docs/decisions/0014): from the path as written, never from what a link leads to."""

import csv
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..common.errors import RequestError
from ..common.names import MAX_NAME_BYTES, name_fault, require_plain_name, shortened
from .search import FOREIGN_SUFFIXES, SLIDE_SUFFIXES

_NOT_UTF8 = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class KnownIds:
    """The ids that a folder of embeddings knows.

    Attributes:
        names: ids that have an embedding.
        of_slide: ids by the absolute path of the slide, as the folder's manifest tells them.
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
        try:
            with open(manifest, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, csv.Error, UnicodeDecodeError):
            continue
        for row in rows:
            slide, slide_id = row.get("slide"), row.get("slide_id")
            if slide and slide_id and name_fault(slide_id) is None:
                of_slide[os.path.abspath(slide)] = slide_id
    return KnownIds(names, of_slide)


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
    _require_once(paths, given)
    ids = [mine or known.of_slide.get(os.path.abspath(path)) for path, mine in zip(paths, given, strict=True)]
    counts = Counter(_same(name) for name in ids if name)
    ids = [mine or (name if name and counts[_same(name)] == 1 else None) for mine, name in zip(given, ids, strict=True)]
    free = [index for index, name in enumerate(ids) if name is None]
    for index, name in zip(free, _derived([paths[i] for i in free], {_same(n) for n in ids if n}), strict=True):
        ids[index] = _with_embedding(_fitting(name), paths[index], known)
    named = [require_plain_name(str(name), shortened(str(path))) for name, path in zip(ids, paths, strict=True)]
    _require_apart(paths, named)
    return named


def _derived(paths: Sequence[Path], taken: set[str]) -> list[str]:
    """Stems, told apart where they are shared with each other or with what is taken."""
    places = [(os.path.abspath(path.parent), stem_of(path)) for path in paths]
    beside = Counter(places)
    ids = [
        f"{place[1]}_{path.suffix[1:]}" if path.suffix and beside[place] > 1 else place[1]
        for path, place in zip(paths, places, strict=True)
    ]
    parents = [_folders_of(path) for path in paths]
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


def _with_embedding(name: str, path: Path, known: KnownIds) -> str:
    """``name``, or where it has no embedding and one with parent folders before it has, the latter."""
    if name in known.names or not known.names:
        return name
    slide_of = {slide_id: Path(slide) for slide, slide_id in known.of_slide.items()}
    longer = name
    for folder in reversed(_folders_of(path)):
        longer = f"{folder}_{longer}"
        if longer in known.names and stem_of(slide_of.get(longer, path)) == stem_of(
            path
        ):  # of this slide, not of folder_name.tif
            return longer
    return name


def _folders_of(path: Path) -> list[str]:
    return [stem_of(Path(name)) for name in Path(os.path.abspath(path)).parts[1:-1]]


def _same(name: str) -> str:
    """What is equal for names that one file system or another takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _require_once(paths: Sequence[Path], given: Sequence[str | None]) -> None:
    first: dict[str, Path] = {}
    for path, name in zip(paths, given, strict=True):
        if name and first.setdefault(_same(name), path) is not path:
            raise RequestError(
                f"{path}: slide_id {shortened(name)!r} is that of {first[_same(name)]} too, expected another for each slide "
                "(capitals do not count): correct the column slide_id"
            )


def _require_apart(paths: Sequence[Path], ids: Sequence[str]) -> None:
    counts = Counter(map(_same, ids))
    same = [str(path) for path, name in zip(paths, ids, strict=True) if counts[_same(name)] > 1]
    if same:
        raise RequestError(
            f"{', '.join(same)}: their outputs would have one name, expected distinct names: rename a file, or name them in the "
            "column slide_id of a table"
        )
