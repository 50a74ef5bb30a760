import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from crashing import crash_at
from encoding.painted import write_painted_slide
from tiny_flow import run_command

from scripts.common.errors import RequestError, SlideError
from scripts.encoding import doctor
from scripts.encoding.doctor import SAMPLES, examine, require_readable

PAGE_PER_COLOUR = "OME-TIFF, RGB, a page per colour"
UNSERVED = ("TIFF in strips", "PNG")


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what was printed, by the name at the beginning of a line."""
    lines = [line.strip().partition("  ") for line in capsys.readouterr().out.splitlines()]
    return {name: value.strip() for name, _, value in lines}


def sample(folder: Path, name: str) -> Path:
    suffix, write = SAMPLES[name]
    write(folder / f"sample{suffix}")
    return folder / f"sample{suffix}"


def test_every_format_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert examine() == []
    said = report(capsys)
    assert said["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert float(said["memory"].removesuffix(" GiB")) > 0
    for name in SAMPLES:
        assert said[name].startswith("nothing: convert it") == (name in UNSERVED), (name, said[name])
    assert said[doctor.BY_OPENSLIDE_ALONE] == "openslide on CPU (not tried)"
    assert "slides" not in said


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - set(UNSERVED) - {"Leica SCN"}))
def test_tifffile_reads_every_format_that_can_be_read(name: str, tmp_path: Path) -> None:
    assert doctor._levels_read(sample(tmp_path, name), "tifffile") == 2


def test_another_picture_does_not_count_as_read(tmp_path: Path) -> None:
    """OpenSlide opens a page per colour and gives the first colour as grey."""
    path = sample(tmp_path, PAGE_PER_COLOUR)
    assert doctor._levels_read(path, "openslide") == 0
    tifffile.imwrite(
        tmp_path / "black.tif", np.zeros((512, 512, 3), np.uint8), tile=(128, 128), photometric="rgb", metadata=None
    )
    assert doctor._levels_read(tmp_path / "black.tif", "tifffile") == 0


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cucim", "cucim.clara", "openslide"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))

    def no_codec(path: Path) -> None:
        raise ImportError("no such codec")

    monkeypatch.setitem(SAMPLES, "tiled TIFF, zstd", (".tif", no_codec))
    assert examine() == []
    said = report(capsys)
    assert said["no-such-package"] == "not installed"
    assert said["OpenSlide's library"] == "does not load"
    assert said["tiled TIFF, JPEG"] == "tifffile on CPU"
    assert said["tiled TIFF, zstd"] == "not tried, no sample can be written (no such codec)"
    assert said[doctor.BY_OPENSLIDE_ALONE] == "nothing: OpenSlide does not load"


def test_a_line_a_slide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_painted_slide(tmp_path / "good.tif")
    (tmp_path / "bad.svs").write_bytes(b"no slide")
    cut = tmp_path / "cut.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    resolution = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(cut, pixels, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=None, **resolution)
    short = tmp_path / "short.tif"
    short.write_bytes(cut.read_bytes()[:-4])  # the last tile
    with tifffile.TiffFile(cut) as file:
        offset = file.pages[0].dataoffsets[10]  # the patch in the middle lies on it
    with open(cut, "r+b") as content:
        content.seek(offset)
        content.write(bytes(1000))
    unreadable = examine(tmp_path)
    said = report(capsys)
    assert said["good"].endswith("2 um/px; levels 128 x 96; patches of 32 px from level 0")
    assert "expected a whole slide" in said["bad"]
    assert unreadable == [said["bad"], said["cut"], said["short"]]
    assert "cut.tif: level 0 cannot be decoded" in said["cut"]
    assert "short.tif: 1 tiles lie past the end of the file" in said["short"]
    with pytest.raises(SlideError, match="3 slides cannot be read"):
        require_readable(unreadable)
    require_readable([])


def test_a_table_gives_the_resolution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.zeros((256, 256, 3), np.uint8), tile=(128, 128), photometric="rgb", metadata=None)
    assert len(examine(path)) == 1
    assert "add a column mpp" in report(capsys)["plain"]
    (tmp_path / "slides.csv").write_text("slide,mpp\nplain.tif,0.5\n", encoding="utf-8")
    assert examine(tmp_path / "slides.csv") == []
    assert report(capsys)["plain"].endswith("; 0.5 um/px; levels 256 x 256; patches of 128 px from level 0")


def test_both_resolutions_of_pixels_that_are_not_square(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tags = {"resolution": (1e4 / 0.5, 1e4 / 0.51), "resolutionunit": "CENTIMETER"}
    pixels = np.zeros((256, 256, 3), np.uint8)
    tifffile.imwrite(tmp_path / "wide.tif", pixels, tile=(128, 128), photometric="rgb", metadata=None, **tags)
    assert examine(tmp_path) == []
    assert "; 0.5 x 0.51 um/px; levels 256 x 256" in report(capsys)["wide"]


def test_a_request_for_nothing_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match="no such file"):
        examine(tmp_path / "gone")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("bad.svs", 1), ("gone.svs", 2)])
def test_exit_codes(name: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "bad.svs").write_bytes(b"no slide")
    result = run_command("doctor", "doctor.yaml", cwd=tmp_path, options={"slides": tmp_path / name})
    assert result.returncode == code, result.stderr
    assert ("formats, and what reads them here" in result.stdout) == (code == 1)


@pytest.mark.parametrize(("policy", "code"), [("fail", 1), ("mask", 0)])
def test_lost_tiles_may_be_masked(policy: str, code: int, tmp_path: Path) -> None:
    path = write_painted_slide(tmp_path / "short.tif", rows=8, columns=8)
    path.write_bytes(path.read_bytes() + b"any")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].aspage().tags["TileOffsets"]
        tag.overwrite([path.stat().st_size, *tag.value[1:]])
    options = {"slides": path, "reading#unreadable_tiles": policy}
    result = run_command("doctor", "doctor.yaml", cwd=tmp_path, options=options)
    assert result.returncode == code, result.stderr
    assert ("1 tiles lie past the end of the file" in result.stdout) == (policy == "fail")


def test_a_reader_that_crashes_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad.tif", "good.tif"):
        write_painted_slide(tmp_path / name)
    crash_at(monkeypatch, "scripts.encoding.doctor", "bad.tif", "sample0.tif")
    (error,) = examine(tmp_path)
    said = report(capsys)
    assert said["bad"] == error and "bad.tif: the process that read it was ended by SIGSEGV" in error
    assert said["good"].endswith("patches of 32 px from level 0")
    first, second = list(SAMPLES)[:2]
    assert "was ended by SIGSEGV" in said[first] and "tifffile" in said[second]


def test_without_a_temporary_folder_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    ((name, said),) = doctor._formats()
    assert name == "none tried"
    assert "no temporary folder for the samples" in said and "TMPDIR" in said
