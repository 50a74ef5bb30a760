"""The slides in a folder: what counts as one, and what is passed over."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from ..common.errors import RequestError
from .companions import DicomHead, dicom_head

SLIDE_SUFFIXES = frozenset(
    {
        ".bif", ".btf", ".dcm", ".mrxs", ".ndpi", ".ptif", ".scn", ".svs", ".svslide", ".tf2", ".tf8", ".tif", ".tiff",
        ".vms", ".vmu",
    }
)  # fmt: skip
FOREIGN_SUFFIXES = frozenset(
    {
        ".czi", ".ets", ".h5", ".hdf5", ".i2syntax", ".isyntax", ".jp2", ".jpeg", ".jpg", ".lif", ".ndpis", ".png", ".pt",
        ".qptiff", ".vsi", ".zarr", ".zvi",
    }
)  # fmt: skip
"""Suffixes that no folder is searched for, and that are no part of a slide's name either."""

_NO_SLIDES = frozenset(
    {
        "__macosx",
        "$recycle.bin",
        "recycler",
        "#recycle",
        "#snapshot",
        "lost+found",
        "@eadir",
        "system volume information",
    }
)
"""Folders of file systems and archivers: trash, snapshots, previews; those that begin with a dot are hidden."""

_HEAT_MAP = frozenset({"cam.dcm", "cam.ome.tif"})
_BESIDE_A_HEAT_MAP = frozenset({"cam.geojson", "cam.nii.gz", "scores.json"})
"""What inference leaves in the folder of one slide: see `inference/exports.py`."""

_LINKED_FOLDERS = "links to folders"
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,8}")
_LOGGER = logging.getLogger(__name__)


def find_slides(folder: str | Path) -> list[Path]:
    """Return the slides at any depth of ``folder``, in order of their paths.

    Hidden files and folders, trash and heat maps of ours do not count. Links to folders are not followed, and a warning counts
    them. The files of a DICOM series are one slide, that of its largest image; label and overview are none. A link to a slide that
    is found itself is passed over; a broken one is a slide, which fails later. The log counts what was passed over by suffix.

    Raises:
        RequestError: A folder cannot be entered.
    """
    passed: Counter[str] = Counter()
    found: list[Path] = []
    for path in _files(Path(folder), passed):
        suffix = path.suffix.lower()
        if suffix in SLIDE_SUFFIXES:
            found.append(path)
        else:
            passed[suffix if _SUFFIX.fullmatch(suffix) else "other"] += 1
    slides = _without_links(found, passed)
    slides = _one_per_series(slides, passed)
    if counts := ", ".join(f"{count} {what}" for what, count in sorted(passed.items()) if count):
        _LOGGER.info("folder of slides: %d found, passed over: %s", len(slides), counts)
    if passed[_LINKED_FOLDERS]:
        _LOGGER.warning(
            "%d links to folders are not followed, and slides behind them not listed; expected folders, or links to slides: link "
            "the slides in place of their folder, or name them in a CSV",
            passed[_LINKED_FOLDERS],
        )
    return sorted(slides)


def _files(folder: Path, passed: Counter[str]) -> Iterator[Path]:
    """Yield the files that count; a link that leads nowhere is one. Links to folders are counted."""
    for place, folders, names in os.walk(folder, onerror=_refuse):
        slides_of_many_files = {name[: -len(".mrxs")] for name in names if name.lower().endswith(".mrxs")}
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name.lower() not in _NO_SLIDES and name not in slides_of_many_files
        )
        passed[_LINKED_FOLDERS] += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        ours = _HEAT_MAP if not _BESIDE_A_HEAT_MAP.isdisjoint(names) else frozenset()
        for name in names:
            if not name.startswith(".") and name not in ours:
                yield Path(place, name)


def _refuse(error: OSError) -> NoReturn:
    raise RequestError(
        f"{error.filename}: cannot be searched for slides ({error.strerror or error}), expected a folder that may be entered: "
        "allow that, or name the slides in a CSV"
    ) from error


def _without_links(paths: Sequence[Path], passed: Counter[str]) -> list[Path]:
    """Leave out links to files that are there already."""
    kept: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: (path.is_symlink(), path)):
        if kept.setdefault(os.path.realpath(path), path) is not path:
            passed["links to slides that are listed"] += 1
    return list(kept.values())


def _one_per_series(paths: Sequence[Path], passed: Counter[str]) -> list[Path]:
    """Leave one file of each DICOM series: that of its largest image, the first by name of several."""
    slides: list[Path] = []
    series: dict[tuple[Path, bytes], tuple[DicomHead, Path]] = {}
    for path in sorted(paths):
        head = dicom_head(path) if path.suffix.lower() == ".dcm" else None
        if head is None or not head.series:
            slides.append(path)
        elif not head.is_volume:
            passed[".dcm of labels, overviews and other kinds"] += 1
        else:
            known = next((series[path.parent, uid] for uid in head.series if (path.parent, uid) in series), None)
            passed[".dcm of the same series"] += known is not None
            largest = known if known is not None and known[0].pixels >= head.pixels else (head, path)
            series |= {(path.parent, uid): largest for uid in head.series | (known[0].series if known else frozenset())}
    return [*slides, *{path for _, path in series.values()}]
