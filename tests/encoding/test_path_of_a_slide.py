"""How many functions of the bundle a slide's path visits on its way from ``encoding`` to its file."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from encoding.painted import MeanEncoder, write_painted_slide

import scripts
from scripts.encoding.encoding_run import encode_slides
from scripts.encoding.job import EncodingJob, Task
from scripts.slides.table import SlideRow

MOST_FUNCTIONS = 20
CODE = str(Path(str(scripts.__file__)).parent)


def holds(value: Any, slide: str) -> bool:
    """Whether a value is the path, or one that carries it: a row, a task, or a collection that has it among its first three."""
    if isinstance(value, (Task, SlideRow)):
        return holds(value.row if isinstance(value, Task) else value.path, slide)
    if isinstance(value, (list, tuple)):
        return any(holds(one, slide) for one in value[:3])
    return isinstance(value, (str, Path)) and str(value) == slide


@contextmanager
def visits_noted(slide: Path, notes: Path) -> Iterator[None]:
    """Note each function of ours that is given the path, or returns it, in order; the processes forked meanwhile note theirs, too."""
    descriptor = os.open(notes, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def note(frame: FrameType, event: str, returned: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(CODE) or code.co_name.startswith("<"):
            return
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        passed = [frame.f_locals.get(name) for name in given] if event == "call" else [returned]
        if event in ("call", "return") and any(holds(value, str(slide)) for value in passed):
            os.write(descriptor, f"{code.co_filename[len(CODE) + 1 :]}:{code.co_qualname}\n".encode())

    before = sys.getprofile(), threading.getprofile()
    sys.setprofile(note)
    threading.setprofile(note)  # a thread of the forked process does the work
    try:
        yield
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])
        os.close(descriptor)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the process that reads the slides is forked on Linux alone"
)
def test_a_slides_path_is_not_handed_round(tmp_path: Path) -> None:
    slide = write_painted_slide(tmp_path / "in" / "s.tif")
    notes = tmp_path / "visits.txt"
    with visits_noted(slide, notes):
        encode_slides(slide, EncodingJob(tmp_path / "out", MeanEncoder))
    assert (tmp_path / "out" / "s.h5").is_file()
    visited = list(dict.fromkeys(notes.read_text().splitlines()))
    there = visited.index("slides/tiff_directories.py:read_directories")  # the first that opens the file
    way = visited[: there + 1]
    assert way[0] == "encoding/encoding_run.py:encode_slides" and "slides/opening.py:open_slide" in way
    assert len(way) <= MOST_FUNCTIONS, "\n".join(way)
