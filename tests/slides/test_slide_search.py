"""The slides in a folder."""

import logging
import os
import struct
from pathlib import Path

import pytest
from dicom_head import OTHER, SERIES, write_dicom

from scripts.common.errors import RequestError
from scripts.slides.slide_search import find_slides


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_slides(folder)]


def test_hidden_files_trash_and_previews_are_no_slides(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a.tif",
        "x/b.SVS",
        "._a.tif",
        ".hidden/c.tif",
        "__MACOSX/._a.tif",
        "__MACOSX/a.tif",
        ".Trash-1000/files/d.tif",
    )
    touch(
        tmp_path,
        "$RECYCLE.BIN/e.tif",
        "lost+found/f.tif",
        "@eaDir/a.tif/thumb.tif",
        "#recycle/g.tif",
        ".snapshot/daily/a.tif",
    )
    assert found(tmp_path) == ["a.tif", "x/b.SVS"]


def test_a_hidden_folder_that_is_asked_for_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, ".slides/a.tif")
    assert found(tmp_path / ".slides") == ["a.tif"]


def test_heat_maps_of_ours_are_no_slides(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "case.tif",
        "predictions/case/cam.ome.tif",
        "predictions/case/cam.nii.gz",
        "moved/cam.dcm",
        "moved/scores.json",
    )
    touch(tmp_path, "cam.ome.tif")  # nothing beside it says that it is ours
    assert found(tmp_path) == ["cam.ome.tif", "case.tif"]


def test_what_is_passed_over_is_counted_by_suffix_without_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(
        tmp_path,
        "a.tif",
        "b.btf",
        "p.ptif",
        "d.czi",
        "e.vsi",
        "f.VSI",
        "g.isyntax",
        "TCGA-1.0b5-secret",
        "noname",
        "m.mrxs",
        "m/Data0.dat",
    )
    with caplog.at_level(logging.INFO):
        assert found(tmp_path) == ["a.tif", "b.btf", "m.mrxs", "p.ptif"]
    assert caplog.messages == ["folder of slides: 4 found, passed over: 1 .czi, 1 .isyntax, 2 .vsi, 2 other"]


def test_a_link_to_a_slide_that_is_there_is_passed_over_and_a_broken_one_is_a_slide(tmp_path: Path) -> None:
    touch(tmp_path, "data/z.tif", "store/9f3a.tif")
    (tmp_path / "data" / "a_link.tif").symlink_to("z.tif")
    (tmp_path / "data" / "stored.tif").symlink_to("../store/9f3a.tif")
    (tmp_path / "data" / "gone.tif").symlink_to("nowhere.tif")
    (tmp_path / "data" / "loop.tif").symlink_to("loop.tif")
    assert found(tmp_path / "data") == ["gone.tif", "loop.tif", "stored.tif", "z.tif"]


def test_a_folder_that_may_not_be_entered_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.tif", "closed/b.tif", "lost+found/c.tif")
    scandir = os.scandir

    def closed(folder: str) -> object:
        if Path(folder).name in ("closed", "lost+found"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(
        RequestError, match=r"closed: cannot be searched for slides \(Permission denied\), expected .*CSV"
    ):
        find_slides(tmp_path)
    (tmp_path / "closed").rename(tmp_path / ".closed")
    assert found(tmp_path) == ["a.tif"]


def test_links_to_folders_are_counted_and_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A loop ends, and whoever links folders reads why their slides are missing; folders that do not count are no loss."""
    touch(tmp_path, "slides/x/a.tif", "slides/x/m.mrxs", "archive/siteC/b.tif", "archive/m/Data0.dat")
    slides = tmp_path / "slides"
    for link, target in (("x/up", slides), ("siteC", tmp_path / "archive" / "siteC")):
        (slides / link).symlink_to(target, target_is_directory=True)
    for link in ("x/m", ".hidden", "lost+found"):
        (slides / link).symlink_to(tmp_path / "archive" / "m", target_is_directory=True)
    with caplog.at_level(logging.INFO):
        assert found(slides) == ["x/a.tif", "x/m.mrxs"]
    counted, remedy = caplog.messages
    assert counted == "folder of slides: 2 found, passed over: 2 links to folders"
    assert remedy.startswith("2 links to folders are not followed") and "CSV" in remedy and "siteC" not in remedy
    assert caplog.records[1].levelname == "WARNING"


def instance(
    path: Path, kind: str, width: int, *, series: str = SERIES, sop_class: bytes = b"1.2.840.10008.5.1.4.1.1.77.1.6"
) -> None:
    """The head of a file of a series, with what tells its place in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(path, series)
    head = path.read_bytes()
    image_type = f"ORIGINAL\\PRIMARY\\{kind}\\NONE".encode()
    image_type += b" " * (len(image_type) % 2)
    meta = b"\x02\x00\x02\x00UI" + struct.pack("<H", len(sop_class)) + sop_class
    meta += b"\x08\x00\x08\x00CS" + struct.pack("<H", len(image_type)) + image_type
    sides = b"".join(b"\x48\x00" + tag + b"\x00UL\x04\x00" + struct.pack("<I", width) for tag in (b"\x06", b"\x07"))
    path.write_bytes(head[:132] + meta + head[132:] + sides)


def test_nothing_passed_over_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    instance(tmp_path / "1.dcm", "VOLUME", 512)
    with caplog.at_level(logging.INFO):
        assert found(tmp_path) == ["1.dcm"]
    assert not caplog.messages


def test_a_dicom_series_is_one_slide_that_of_its_largest_image(tmp_path: Path) -> None:
    for name, kind, width in (
        ("1", "LABEL", 9000),
        ("2", "VOLUME", 512),
        ("3", "VOLUME", 4096),
        ("4", "OVERVIEW", 600),
        ("5", "THUMBNAIL", 90),
    ):
        instance(tmp_path / "s" / f"{name}.dcm", kind, width)
    instance(tmp_path / "s" / "6.dcm", "VOLUME", 100, series=OTHER)
    instance(
        tmp_path / "s" / "7.dcm", "VOLUME", 9999, series=OTHER, sop_class=b"1.2.840.10008.5.1.4.1.1.66.4\0"
    )  # a segmentation
    instance(tmp_path / "t" / "1.dcm", "VOLUME", 512)
    write_dicom(tmp_path / "s" / "8.dcm")  # does not tell its series
    (tmp_path / "s" / "9.dcm").write_bytes(b"no DICOM")
    assert found(tmp_path) == ["s/3.dcm", "s/6.dcm", "s/8.dcm", "s/9.dcm", "t/1.dcm"]


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX alone")
def test_a_name_that_is_not_utf8_is_found(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"M\xfcller.tif")).touch()
    assert [os.fsencode(path.name) for path in find_slides(tmp_path)] == [b"M\xfcller.tif"]
