"""A slide in several files that changes in any of them is another slide."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from encoding.encoding_requests import encode_all
from encoding.painted import MPP, MeanEncoder, contents, paint, quarter_colours
from slides.dicom_head import OTHER, SERIES, write_dicom
from slides.mirax_file import write_mirax
from slides.tiff_tiles import blocks
from slides.vms_file import write_vms

from scripts.encoding.settings import EncodingSettings, parameters_of
from scripts.slides.table import SlideRow


def statement(slide: Path) -> str:
    return parameters_of(SlideRow(slide.stem, slide), "encoder", EncodingSettings())


@pytest.fixture(params=[".mrxs", ".vms", ".dcm"])
def slide(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "scans" / f"a{request.param}"
    path.parent.mkdir()
    if request.param == ".mrxs":
        return write_mirax(path, blocks(64, 64), np.ones((1, 1), bool))
    if request.param == ".vms":
        return write_vms(path, blocks(64, 256))
    write_dicom(path.with_name("level1.dcm"), SERIES)
    write_dicom(path.with_name("level2.dcm"), SERIES)
    return write_dicom(path, SERIES)


def others(slide: Path) -> list[Path]:
    return [path for path in sorted(slide.parent.rglob("*")) if path.is_file() and path != slide]


def test_any_companion_that_changes_changes_the_statement(slide: Path) -> None:
    before = statement(slide)
    assert statement(slide) == before
    for path in others(slide):
        content = path.read_bytes()
        for changed in (content + b"x", content[:-1], bytes([content[0] ^ 1]) + content[1:]):
            path.write_bytes(changed)
            assert statement(slide) != before, path.name
        path.write_bytes(content)
        assert statement(slide) == before
        path.rename(path.with_name(f"{path.name}.old"))
        assert statement(slide) != before
        path.with_name(f"{path.name}.old").rename(path)


def test_a_copy_and_what_lies_beside_change_nothing(slide: Path, tmp_path: Path) -> None:
    before = statement(slide)
    for path in others(slide):
        os.utime(path, (0, 0))
    write_dicom(slide.with_name("other.dcm"), OTHER)
    (slide.parent / "notes.txt").write_text("a new file")
    assert statement(slide) == before
    copied = shutil.copytree(slide.parent, tmp_path / "copy") / slide.name
    assert statement(copied) == before


def test_the_settings_the_encoder_and_the_resolution_count(tmp_path: Path) -> None:
    slide = tmp_path / "a.svs"
    slide.write_bytes(b"slide")
    row = SlideRow("a", slide)
    statements = {
        parameters_of(row, "encoder", EncodingSettings()),
        parameters_of(row, "other", EncodingSettings()),
        parameters_of(row, "encoder", EncodingSettings(patch_um=32)),
        parameters_of(SlideRow("a", slide, mpp=0.5), "encoder", EncodingSettings()),
    }
    assert len(statements) == 4
    assert json.loads(statement(slide))["slide_bytes"] == 5


def test_a_changed_data_folder_is_encoded_anew(tmp_path: Path) -> None:
    slide, output = tmp_path / "scans" / "a.mrxs", tmp_path / "out"

    def write(seed: int) -> None:
        shutil.rmtree(slide.parent, ignore_errors=True)
        slide.parent.mkdir()
        write_mirax(slide, paint(quarter_colours(6, 9, seed=seed)), np.ones((4, 6), bool), tile_px=48, mpp=MPP)

    def status() -> str:
        (entry,) = encode_all(slide.parent, output, MeanEncoder)
        return entry.status

    write(0)
    assert status() == "done"
    before = contents(output)
    assert status() == "skipped"
    write(1)  # the .mrxs itself is empty before and after
    assert status() == "done"
    assert contents(output) != before
