import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from crashing import crash_at
from encoding.bad_tiles import spoil, write_pyramid
from patches.plain_slide import write_plain_slide
from tiny_flow import run_command

from scripts.common.errors import RequestError, SlideError
from scripts.patches.draw import DrawRules
from scripts.patches.sampling_run import CountsRow, choose_slides, require_complete, sample_slides
from scripts.slides.opening import Reading
from scripts.slides.table import SlideRow

REPO = Path(__file__).resolve().parents[2]


def sampled(
    slides: Path | None, output: Path, *, replace: bool = False, num_workers: int = 0, **rules: Any
) -> list[CountsRow]:
    reading = Reading(num_workers=num_workers)
    return sample_slides(slides, output, rules=DrawRules(**rules), reading=reading, replace=replace)


def write_table(folder: Path, header: str, *lines: str) -> Path:
    table = folder / "slides.csv"
    table.write_text("\n".join([header, *lines]) + "\n")
    return table


def read_counts(folder: Path) -> list[dict[str, str]]:
    with open(folder / "counts.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """One slide each: enough, too few, none rich, missing; and one to validate."""
    write_plain_slide(tmp_path / "full.tif", rich=40, pale=40)
    write_plain_slide(tmp_path / "poor.tif", rich=12, pale=40)
    write_plain_slide(tmp_path / "pale.tif", rich=0, pale=40)
    write_plain_slide(tmp_path / "held_out.tif", rich=40, pale=0)
    lines = ("full.tif,0,train", "poor.tif,1,train", "pale.tif,0,train", "gone.tif,1,train", "held_out.tif,1,val")
    return write_table(tmp_path, "slide,label,split", *lines)


def test_what_every_slide_gave_is_written(table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = tmp_path / "out"
    counts = sampled(table, output, patches_per_slide=20)
    rows = read_counts(output)
    assert [(row["slide_id"], row["status"], row["patches"], row["rich"], row["candidates"]) for row in rows] == [
        ("full", "done", "20", "18", "80"),
        ("poor", "short", "13", "12", "52"),
        ("pale", "empty", "0", "0", "40"),
        ("gone", "failed", "0", "0", "0"),
    ]
    (warning,) = [message for message in caplog.messages if "rich_share" in message]
    assert warning.startswith("2 of 4 slides gave too few patches, 1 of them none") and warning.endswith(
        "--draw#rich_share 0"
    )
    assert "pale.tif" not in warning
    assert (output / rows[0]["slide"]).samefile(table.parent / "full.tif")
    assert rows[0]["error"] == ""
    assert "13 of 20" in rows[1]["error"]
    assert "0 of 20" in rows[2]["error"]
    assert "no such file" in rows[3]["error"]
    with h5py.File(output / "patches.h5") as file:
        assert file["patches"].shape == (33, 112, 112, 3)
        assert list(file["slide_id"].asstr()) == ["full"] * 20 + ["poor"] * 13
        assert file["rich"][:].sum() == 30
        assert json.loads(file.attrs["settings"])["splits"] == ["train"]
        assert file.attrs["seed"] == 0
    assert sorted(path.name for path in output.glob("[!.]*")) == ["contact_sheet.png", "counts.csv", "patches.h5"]
    with pytest.raises(SlideError, match=r"1 of 4 slides failed.*counts\.csv"):
        require_complete(counts, output)


def test_same_seed_same_patches(table: Path, tmp_path: Path) -> None:
    held = {}
    for name, options in {"one": {}, "two": {"num_workers": 2}, "other": {"seed": 1}}.items():
        sampled(table, tmp_path / name, patches_per_slide=15, **options)
        with h5py.File(tmp_path / name / "patches.h5") as file:
            held[name] = file["patches"][:15]
    np.testing.assert_array_equal(held["one"], held["two"])
    assert (held["one"] != held["other"]).any()


def test_splits(table: Path, tmp_path: Path) -> None:
    assert [entry.slide_id for entry in sampled(table, tmp_path / "v", splits=["val"])] == ["held_out"]
    assert len(sampled(table, tmp_path / "tv", splits=("train", "val"), patches_per_slide=2)) == 5
    with pytest.raises(RequestError, match=r"no slide in split test.*--draw#splits"):
        sampled(table, tmp_path / "t", splits=["test"])
    assert not (tmp_path / "t").exists()


def test_without_a_split_column_all_slides_count(table: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path, "slide", "full.tif", "held_out.tif")
    counts = sampled(table, tmp_path / "out", patches_per_slide=2)
    assert [entry.slide_id for entry in counts] == ["full", "held_out"]
    require_complete(counts, tmp_path / "out")


def test_nothing_drawn_is_a_failure_and_leaves_no_patches(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    sampled(tmp_path / "full.tif", output, patches_per_slide=2)
    assert (output / "patches.h5").is_file()
    counts = sampled(tmp_path / "pale.tif", output, patches_per_slide=2, replace=True)
    assert [path.name for path in output.glob("[!.]*")] == ["counts.csv"]
    with pytest.raises(SlideError, match="none of 1 slides gave a patch"):
        require_complete(counts, output)


def test_slides_are_drawn_from_each_class() -> None:
    labels = ["a"] * 8 + ["b"] * 3 + [None] * 6
    rows = [SlideRow(f"s{i:02d}", Path(f"s{i:02d}.svs"), label=label) for i, label in enumerate(labels)]
    chosen = choose_slides(rows, slides_per_class=4, seed=0)
    assert [sum(row.label == label for row in chosen) for label in ("a", "b", None)] == [4, 3, 4]
    assert chosen == [row for row in rows if row in chosen]
    assert choose_slides(rows[::-1], slides_per_class=4, seed=0) == chosen[::-1]
    assert any(choose_slides(rows, slides_per_class=4, seed=seed) != chosen for seed in range(1, 4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slides_per_class", 0),
        ("patches_per_slide", 0),
        ("rich_share", 1.1),
        ("splits", ["training"]),
        ("splits", []),
        ("seed", -1),
        ("patch_um", 0),
        ("read_level", "lowest"),
        ("num_workers", -1),
    ],
)
def test_a_wrong_option_writes_nothing(table: Path, tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"^{name} .*: expected"):
        sampled(table, tmp_path / "out", **{name: value})
    assert not (tmp_path / "out").exists()


def test_slides_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--slides"):
        sampled(None, tmp_path)


def test_config_runs_the_stage_and_a_failed_slide_ends_in_code_1(table: Path, tmp_path: Path) -> None:
    options = {
        "slides": table,
        "output_dir": tmp_path / "out",
        "draw#patches_per_slide": 10,
        "draw#splits": "train,val",
    }
    result = run_command("sampling", "sample.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: 1 of 5 slides failed")
    assert [row["patches"] for row in read_counts(tmp_path / "out")] == ["10", "10", "0", "0", "10"]


def test_the_remedy_of_an_unreadable_tile_is_an_option(tmp_path: Path) -> None:
    spoil(write_pyramid(tmp_path / "a.tif"), 0, (2, 4))
    options = {"slides": tmp_path / "a.tif", "output_dir": tmp_path / "out", "draw#rich_share": 0}
    assert run_command("sampling", "sample.yaml", cwd=tmp_path, options=options).returncode == 1
    assert "--reading#unreadable_tiles mask" in read_counts(tmp_path / "out")[0]["error"]
    result = run_command(
        "sampling", "sample.yaml", cwd=tmp_path, options={**options, "reading#unreadable_tiles": "mask"}
    )
    assert result.returncode == 0, result.stderr
    assert [row["patches"] for row in read_counts(tmp_path / "out")] == ["47"]


def test_a_slide_that_ends_its_reader_fails_alone(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled(table, tmp_path / "whole", patches_per_slide=20)
    crash_at(monkeypatch, "scripts.patches.draw", "full.tif")
    counts = sampled(table, tmp_path / "out", patches_per_slide=20)
    assert [(entry.slide_id, entry.status) for entry in counts] == [
        ("full", "failed"),
        ("poor", "short"),
        ("pale", "empty"),
        ("gone", "failed"),
    ]
    assert "full.tif: the process that read it was ended by SIGSEGV" in counts[0].error
    with h5py.File(tmp_path / "out" / "patches.h5") as found, h5py.File(tmp_path / "whole" / "patches.h5") as whole:
        np.testing.assert_array_equal(found["patches"][:], whole["patches"][20:])


SAMPLE_WITH_LITTLE_ROOM = """
import resource, sys
from scripts.common.process import install_exit_codes
from scripts.patches.draw import DrawRules
from scripts.patches.sampling_run import sample_slides

install_exit_codes()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
sample_slides(sys.argv[1], sys.argv[2], rules=DrawRules(patches_per_slide=8, rich_share=0))
"""


def test_a_full_disk_is_an_error_and_leaves_no_patches(tmp_path: Path) -> None:
    """A limit on the size of files stands for it. The process ended by a segmentation fault, after it had said all."""
    slide = write_plain_slide(tmp_path / "a.tif", rich=10, pale=10)
    words = [sys.executable, "-c", SAMPLE_WITH_LITTLE_ROOM, str(slide), str(tmp_path / "out")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, cwd=REPO / "bundle")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'out'}: File too large; ")
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == []
    assert not list((tmp_path / "out").glob(".*.partial*"))
