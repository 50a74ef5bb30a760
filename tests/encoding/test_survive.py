"""What goes wrong with disks, files and processes, done for real."""

import csv
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
import tifffile
from encoding.encoding_requests import encode_all
from encoding.painted import MPP, MeanEncoder, contents, paint, quarter_colours, write_painted_slide

from scripts.common.errors import RequestError, StorageError
from scripts.encoding import encoding_run
from scripts.encoding.embedding_file import header_of
from scripts.encoding.encoding_run import ManifestRow


class Slow(MeanEncoder):
    def forward(self, patches):
        time.sleep(0.02)
        return super().forward(patches)


Slow.__name__ = "MeanEncoder"  # the same identity: the files must be the same


def encode(slides: Path, output: Path, **options: object) -> dict[str, ManifestRow]:
    return {entry.slide_id: entry for entry in encode_all(slides, output, MeanEncoder, **options)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(mount)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk to fill can be mounted by root alone")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(small_disk: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif", seed=ord(name))
    encode(tmp_path / "scans", tmp_path / "whole")
    output = small_disk / "out"
    output.mkdir()
    ballast = small_disk / "ballast"
    size = next((tmp_path / "whole").glob("[!.]*.h5")).stat().st_size
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    ballast.write_bytes(bytes(free - size - size // 2 - 8192))  # two pages for what is known of the outputs
    with pytest.raises(StorageError, match=r"out: No space left on device; .* make room there"):
        encode(tmp_path / "scans", output)
    assert len(contents(output)) == 1
    assert not list(output.glob("*.partial*"))
    ballast.unlink()
    manifest = encode(tmp_path / "scans", output)
    assert [entry.status for entry in manifest.values()] == ["skipped", "done", "done"]
    assert contents(output) == contents(tmp_path / "whole")


def test_a_disk_without_room_for_the_manifest_stops_the_run(small_disk: Path, tmp_path: Path) -> None:
    output = small_disk / "out"
    encode(write_painted_slide(tmp_path / "a.tif"), output)
    with open(small_disk / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(4096))
    with pytest.raises(StorageError, match=r"out: No space left on device; .* make room there"):
        encode(tmp_path / "a.tif", output)
    assert list(contents(output)) == ["a.h5"]


def test_an_output_that_cannot_be_written_is_a_wrong_request(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RequestError, match=r"out: cannot be written \(Read-only file system\)"):
        encode(write_painted_slide(tmp_path / "a.tif"), small_disk / "out")


def test_a_slide_that_vanishes_while_others_are_read_fails_alone(tmp_path: Path) -> None:
    first = write_painted_slide(tmp_path / "scans" / "a.tif")
    second = write_painted_slide(tmp_path / "scans" / "b.tif")

    class Removing(MeanEncoder):
        def forward(self, patches):
            second.unlink(missing_ok=True)
            return super().forward(patches)

    manifest = encode_all(first.parent, tmp_path / "out", Removing)
    assert [(entry.status, entry.output) for entry in manifest] == [("done", "a.h5"), ("failed", "")]
    assert "b.tif: no such file" in manifest[1].error


def test_a_slide_that_changes_while_it_is_read_fails(tmp_path: Path) -> None:
    slide = write_painted_slide(tmp_path / "a.tif")

    class Changing(MeanEncoder):
        def forward(self, patches):
            with open(slide, "ab") as file:
                file.write(b"more")
            return super().forward(patches)

    (entry,) = encode_all(slide, tmp_path / "out", Changing)
    assert entry.status == "failed"
    assert "changed while it was read" in entry.error
    assert not list((tmp_path / "out").glob("[!.]*.h5"))


def test_a_truncated_slide_fails_alone(tmp_path: Path) -> None:
    whole = write_painted_slide(tmp_path / "scans" / "a.tif")
    cut = write_painted_slide(tmp_path / "scans" / "b.tif")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    manifest = encode(whole.parent, tmp_path / "out")
    assert {name: entry.status for name, entry in manifest.items()} == {"a": "done", "b": "failed"}
    assert "b.tif" in manifest["b"].error


def damaged_slide(path: Path, *, tile: int | None) -> Path:
    """Write a slide of 6 x 8 patches in JPEG tiles of 2 x 2 patches, one of which is zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        file.write(
            paint(quarter_colours(6, 8)),
            tile=(64, 64),
            photometric="rgb",
            compression="jpeg",
            resolution=(1e4 / MPP, 1e4 / MPP),
            resolutionunit="CENTIMETER",
            metadata=None,
        )
    if tile is None:
        return path
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[tile], page.databytecounts[tile]
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    return path


def test_an_unreadable_tile_fails_the_slide_or_costs_its_patches(tmp_path: Path) -> None:
    slide, output = damaged_slide(tmp_path / "a.tif", tile=5), tmp_path / "out"
    (failed,) = encode(slide, output).values()
    assert failed.status == "failed"
    assert "a.tif" in failed.error and "--reading#unreadable_tiles mask" in failed.error
    (masked,) = encode(slide, output, unreadable_tiles="mask").values()
    assert (masked.status, masked.patches) == ("done", 6 * 8 - 4)
    assert "4 patches lie on unreadable tiles" in masked.error
    assert header_of(output / "a.h5").attributes["patches_left_out"] == 4
    (skipped,) = encode(slide, output, unreadable_tiles="mask").values()
    assert (skipped.status, skipped.error) == ("skipped", masked.error)
    before = (output / "a.h5").read_bytes()
    refused = encode(slide, output)["a"]
    assert refused.status == "failed", "who does not ask for masks is not given one"
    assert "--reading#unreadable_tiles mask" in refused.error and "a.h5, is kept" in refused.error
    assert encode(slide, output, resume=False)["a"].status == "failed"
    assert (output / "a.h5").read_bytes() == before
    assert encode(slide, output, unreadable_tiles="mask")["a"].status == "skipped"
    damaged_slide(slide, tile=None)
    mended = encode(slide, output)["a"]
    assert (mended.status, mended.patches) == ("done", 6 * 8), "a sound copy is taken"


def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unreadable_tiles 'skip': expected one of fail, mask"):
        encode(write_painted_slide(tmp_path / "a.tif"), tmp_path / "out", unreadable_tiles="skip")


def test_a_flipped_byte_is_found_and_encoded_anew(tmp_path: Path) -> None:
    slide, output = write_painted_slide(tmp_path / "a.tif"), tmp_path / "out"
    encode(slide, output)
    before = contents(output)
    content = bytearray((output / "a.h5").read_bytes())
    with h5py.File(output / "a.h5") as file:
        at = file["features"].id.get_chunk_info(0).byte_offset
    content[at + 5] ^= 1
    (output / "a.h5").write_bytes(content)
    assert encode(slide, output)["a"].status == "done"
    assert contents(output) == before


def test_kills_at_any_moment_change_no_byte(tmp_path: Path) -> None:
    """`make faults` does this to every stage (benchmarks/campaign_interrupts.py)."""
    for name in ("a", "b", "c"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif", seed=ord(name))
    encode(tmp_path / "scans", tmp_path / "whole", batch_size=2)
    output = tmp_path / "out"
    draw, ends = random.Random(0), []
    for _ in range(4):
        process = multiprocessing.get_context("fork").Process(
            target=encode_all, args=(tmp_path / "scans", output, Slow), kwargs={"batch_size": 2}
        )
        process.start()
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        process.join()
        ends.append(process.exitcode)
        assert contents(output).items() <= contents(tmp_path / "whole").items(), "what lies there is whole"
    assert -signal.SIGKILL in ends, "each had ended by itself"
    encode(tmp_path / "scans", output, batch_size=2)
    assert contents(output) == contents(tmp_path / "whole")
    assert sorted(path.name for path in output.iterdir() if ".lock" not in path.name) == [
        ".encoding.outputs.jsonl",
        "a.h5",
        "b.h5",
        "c.h5",
        "manifest.csv",
    ]


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    left = [".a.12.partial.h5", ".manifest.12.partial.csv", "..encoding.owner.12.partial.json"]
    others = [".b.12.partial.h5", ".manifest.1-of-2.12.partial.csv", "a.partial.h5"]
    for name in (*left, *others):
        (output / name).touch()
    encode(write_painted_slide(tmp_path / "a.tif"), output)
    names = {path.name for path in output.iterdir()}
    assert not names & set(left)
    assert set(others) <= names


def test_shards_share_a_folder_and_a_last_run_collects_the_manifest(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif", seed=ord(name))
    output = tmp_path / "out"
    assert list(encode(tmp_path / "scans", output, shard="1/2")) == ["a", "c"]
    assert list(encode(tmp_path / "scans", output, shard="2/2")) == ["b"]
    assert sorted(path.name for path in output.glob("manifest*")) == ["manifest.1-of-2.csv", "manifest.2-of-2.csv"]
    assert {entry.status for entry in encode(tmp_path / "scans", output).values()} == {"skipped"}
    with open(output / "manifest.csv", newline="") as file:
        assert [row["slide_id"] for row in csv.DictReader(file)] == ["a", "b", "c"]


def test_shards_that_run_at_once_do_not_meet_over_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first writes it alone: another that starts meanwhile neither waits for it nor takes it for somebody else's."""
    for name in ("a", "b"):
        write_painted_slide(tmp_path / f"{name}.tif", seed=ord(name))
    (tmp_path / "slides.csv").write_text("slide\na.tif\nb.tif\n")
    output, copy = tmp_path / "out", encoding_run.copy_table

    def copy_while_another_starts(*arguments: object, **options: object) -> None:
        assert list(encode(tmp_path / "slides.csv", output, shard="2/2")) == ["b"]
        assert not (output / "slides.csv").exists()
        copy(*arguments, **options)

    monkeypatch.setattr(encoding_run, "copy_table", copy_while_another_starts)
    assert list(encode(tmp_path / "slides.csv", output, shard="1/2")) == ["a"]
    assert (output / "slides.csv").is_file()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_a_shard_that_is_none_is_refused(tmp_path: Path, shard: str) -> None:
    with pytest.raises(RequestError, match=rf"shard '{shard}': expected i/n"):
        encode(write_painted_slide(tmp_path / "a.tif"), tmp_path / "out", shard=shard)
