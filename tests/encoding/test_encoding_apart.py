"""Slides whose decoder crashes, hangs or raises anything, beside good ones."""

import csv
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from crashing import crash
from encoding.encoding_requests import encode_all, job_of
from encoding.painted import MeanEncoder, contents, write_painted_slide
from tiny_flow import read_rows

from scripts.common.errors import RequestError
from scripts.encoding import embed
from scripts.encoding.encoding_run import encoding_of
from scripts.encoding.job import ManifestRow
from scripts.slides import opening
from scripts.slides.opening import open_slide
from scripts.slides.reader import Decoded, SlideReader

BAD = ("b_crashes", "c_opens_never", "d_hangs", "e_memory", "f_index", "g_exits", "i_opens_crashing")
EXPECTED = {
    "b_crashes": "b_crashes.tif: the process that read it was ended by SIGSEGV; expected a file that can be decoded",
    "c_opens_never": "c_opens_never.tif: the process that read it was ended, since its decoder had not returned for 0.5 s",
    "d_hangs": "d_hangs.tif: the process that read it was ended, since its decoder had not returned for 0.5 s",
    "e_memory": "e_memory.tif: cannot be processed (MemoryError)",
    "f_index": "f_index.tif: cannot be processed (IndexError: list index out of range)",
    "g_exits": "g_exits.tif: the process that read it ended by itself with exit code 7",
    "i_opens_crashing": "i_opens_crashing.tif: the process that read it was ended by SIGSEGV",
}


class Bad(SlideReader):
    """Does what its file's name says when it decodes, in a process that is not the test's."""

    backend = "bad"

    def __init__(self, path: Path, test: int) -> None:
        assert os.getpid() != test
        if "opens_never" in path.name:
            time.sleep(60)
        if "opens_crashing" in path.name:
            crash()
        super().__init__(path, level_sizes_xy_px=((128, 96),), mpp_xy=(2.0, 2.0))

    def _decode(
        self, corners_xy: np.ndarray[Any, Any], *, size_xy_px: tuple[int, int], level: int
    ) -> Iterator[Decoded]:
        if "crashes" in self.path.name:
            crash()
        if "hangs" in self.path.name:
            time.sleep(60)
        if "memory" in self.path.name:
            raise MemoryError
        if "exits" in self.path.name:
            os._exit(7)
        raise IndexError("list index out of range")
        yield

    def close(self) -> None:
        pass


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of good slides and, between them, of bad ones."""
    for name in ("a_good", *BAD, "h_good", "j_good"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif", seed=ord(name[0]))
    good, test = opening._openers, os.getpid()

    def openers(*about: Any) -> dict[str, Any]:
        def opened(path: Path) -> SlideReader:
            return Bad(path, test) if path.stem in BAD else good(*about)["tifffile"](path)

        return dict.fromkeys(good(*about), opened)

    monkeypatch.setattr(opening, "_openers", openers)
    monkeypatch.setattr("scripts.common.apart.POLL_S", 0.05)
    return tmp_path / "scans"


def test_a_slide_that_kills_its_reader_fails_and_the_others_are_done(bad: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    manifest = encode_all(bad, output, MeanEncoder, timeout_s=0.5)
    assert {entry.slide_id: entry.status for entry in manifest} == {
        **dict.fromkeys(BAD, "failed"),
        **dict.fromkeys(("a_good", "h_good", "j_good"), "done"),
    }
    errors = {entry.slide_id: entry.error for entry in manifest if entry.error}
    for name, text in EXPECTED.items():
        assert text in errors[name]
    with open(output / "manifest.csv", newline="") as file:
        assert [row["slide_id"] for row in csv.DictReader(file)] == sorted((*BAD, "a_good", "h_good", "j_good"))
    assert not list(output.glob("*.partial*"))
    for name in BAD:
        (bad / f"{name}.tif").unlink()
    encode_all(bad, tmp_path / "alone", MeanEncoder)
    assert contents(output) == contents(tmp_path / "alone")


def test_a_dry_run_says_the_same(bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode_all(bad, tmp_path / "out", MeanEncoder, timeout_s=0.5, dry_run=True) == []
    told = capsys.readouterr().out
    assert "slides: 8 of 10 to encode, 0 done before, 0 without tissue, 2 that would fail" in told
    for name in ("c_opens_never", "i_opens_crashing"):  # the others are opened alone: they have no pyramid
        assert EXPECTED[name] in told
    assert not (tmp_path / "out").exists()


class Crashing(MeanEncoder):
    """Crashes on the first patches of any slide, as a broken installation does."""

    def forward(self, patches):  # type: ignore[no-untyped-def]
        crash()


def test_a_crash_at_every_slide_ends_with_the_slides(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif")
    manifest = encode_all(tmp_path / "scans", tmp_path / "out", Crashing)
    assert [entry.status for entry in manifest] == ["failed"] * 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if ".encoding" not in path.name) == [
        "manifest.csv"
    ]


def test_the_next_slide_is_encoded_while_the_caller_has_a_row(tmp_path: Path) -> None:
    """One further slide, not all."""
    for name in ("a", "b", "c"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif")
    there = tmp_path / "out"
    with encoding_of(tmp_path / "scans", job_of(there, MeanEncoder)) as kept:
        rows = iter(kept)
        assert next(rows).slide_id == "a"
        assert [row["slide_id"] for row in read_rows(there / "manifest.csv")] == ["a"]
        wait_for(lambda: (there / "b.h5").is_file())
        time.sleep(0.05)
        assert sorted(path.name for path in there.glob("*.h5")) == ["a.h5", "b.h5"]
    again = encode_all(tmp_path / "scans", there, MeanEncoder)
    assert [entry.status for entry in again] == ["skipped", "skipped", "done"]


def test_what_is_at_work_when_the_caller_has_enough_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif")
    original, there = embed.write_attributes, tmp_path / "out"

    def write(file: h5py.File, attributes: Mapping[str, Any]) -> None:
        if Path(file.filename).name.startswith(".b."):
            time.sleep(60)
        original(file, attributes)

    monkeypatch.setattr(embed, "write_attributes", write)
    with encoding_of(tmp_path / "scans", job_of(there, MeanEncoder)) as kept:
        rows = iter(kept)
        assert next(rows).slide_id == "a"
        wait_for(lambda: bool(list(there.glob(".b.*.partial*"))))
    assert not list(there.glob(".*.partial*"))


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_crash_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = write_painted_slide(tmp_path / "a.tif")
    monkeypatch.setattr("scripts.encoding.embed.write_attributes", lambda *_: crash())
    (entry,) = encode_all(slide, tmp_path / "out", MeanEncoder)
    assert entry.status == "failed" and "SIGSEGV" in entry.error and entry.seconds > 0
    assert [path.name for path in (tmp_path / "out").iterdir() if ".encoding" not in path.name] == ["manifest.csv"]


def test_an_encoder_that_crashes_at_its_start_is_a_wrong_request(tmp_path: Path) -> None:
    def encoder() -> MeanEncoder:
        crash()
        return MeanEncoder()

    slide = write_painted_slide(tmp_path / "a.tif")
    with pytest.raises(RequestError, match=r"was ended by SIGSEGV before the first slide"):
        encode_all(slide, tmp_path / "out", encoder)
    assert not (tmp_path / "out").exists()


def test_a_fresh_process_encodes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA forbids a copy of this process."""

    def encoded(output: Path) -> list[ManifestRow]:
        return encode_all(slide, output, partial(MeanEncoder, 0.5), num_workers=1)

    slide = write_painted_slide(tmp_path / "a.tif")
    encoded(tmp_path / "forked")
    monkeypatch.setattr("scripts.common.apart.start_method", lambda **_: "spawn")
    (entry,) = encoded(tmp_path / "fresh")
    assert entry.status == "done"
    assert contents(tmp_path / "fresh") == contents(tmp_path / "forked")


def test_a_good_slide_is_opened_here(bad: Path) -> None:
    """What the other tests patch serves good slides."""
    with open_slide(bad / "a_good.tif") as reader:
        assert reader.backend == "tifffile"
