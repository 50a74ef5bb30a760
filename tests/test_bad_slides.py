"""Damaged and odd slides beside good ones, by the commands that a user types: the good ones are done, the others told with a reason."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from encoding.painted import on_glass, paint, quarter_colours
from numpy.typing import NDArray
from tiff_bytes import (
    LENGTH,
    OFFSETS,
    TILE_LENGTH,
    TILE_WIDTH,
    WIDTH,
    X_RESOLUTION,
    Y_RESOLUTION,
    Tiff,
)
from tiny_flow import ON_CPU, TinyFlow, read_rows, run_command

pytest_plugins = ["tiny_flow_fixture"]

GOOD = ("a_good", "m_good", "z_good")


def pixels(seed: int) -> NDArray[np.uint8]:
    tissue = paint(quarter_colours(6, 6, seed=seed), quarter_px=16)
    return on_glass(tissue, size_xy_px=(256, 256), corner_xy_px=(32, 32))


def write(path: Path, image: NDArray[np.generic], **options: object) -> Path:
    kind = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg", "metadata": None, **options}
    tifffile.imwrite(path, image, resolution=(5000, 5000), resolutionunit="CENTIMETER", **kind)  # type: ignore[arg-type]
    return path


def jpeg_width(tiff: Tiff) -> None:
    start = tiff.content.index(b"\xff\xc0", tiff.values(tiff.entries(OFFSETS)[0])[0])
    tiff.content[start + 7] ^= 2


def set_tag(tag: int, value: int) -> Callable[[Tiff], None]:
    def change(tiff: Tiff) -> None:
        tiff.set(tiff.entries(tag)[0], value)

    return change


def cycle(tiff: Tiff) -> None:
    tiff.put(tiff.link, tiff.directories[0].next_at, tiff.directories[0].at)


def cut(tiff: Tiff) -> None:
    del tiff.content[tiff.values(tiff.entries(OFFSETS)[0])[2] :]


def zeros(tiff: Tiff) -> None:
    first, second = tiff.values(tiff.entries(OFFSETS)[0])[1:3]
    middle = (first + second) // 2
    tiff.content[middle:second] = bytes(second - middle)


def no_tables(tiff: Tiff) -> None:
    start = tiff.content.index(b"\xff\xc4", tiff.values(tiff.entries(OFFSETS)[0])[0])
    tiff.content[start + 4 : start + 32] = bytes(28)


def no_resolution(tiff: Tiff) -> None:
    for entry in tiff.entries(X_RESOLUTION, Y_RESOLUTION):
        tiff.put("I", entry.values_at, 0)
        tiff.put("I", entry.values_at + 4, 1)


def huge(tiff: Tiff) -> None:
    for tag in (WIDTH, LENGTH):
        set_tag(tag, 2**31 - 1)(tiff)


DAMAGE: dict[str, Callable[[Tiff], None]] = {
    "jpeg_width": jpeg_width,
    "tile_width_64": set_tag(TILE_WIDTH, 64),
    "tile_width_256": set_tag(TILE_WIDTH, 256),
    "tile_length_1": set_tag(TILE_LENGTH, 1),
    "image_length": set_tag(LENGTH, 100_000),
    "huge": huge,
    "cycle": cycle,
    "cut": cut,
    "zeros": zeros,
    "no_tables": no_tables,
    "no_resolution": no_resolution,
}

IN_A_TILE = ("jpeg_width", "zeros", "no_tables")
"""Damage that the doctor, who looks at one patch per slide, may not meet."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good slides among bad ones."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(GOOD):
        write(folder / f"{name}.tif", pixels(seed))
    for name, change in DAMAGE.items():
        tiff = Tiff((folder / "a_good.tif").read_bytes())
        change(tiff)
        (folder / f"{name}.tif").write_bytes(tiff.content)
    image = pixels(9)
    write(folder / "grey.tif", image[..., 0], photometric="minisblack", compression="lzw")
    write(folder / "deep.tif", image.astype(np.uint16) * 257, compression="lzw")
    write(folder / "strips.tif", image, tile=None, rowsperstrip=16)
    write(folder / "turned.tif", image, extratags=[(274, "H", 1, 6, True)])
    (folder / "text.svs").write_text("<html>404</html>", encoding="utf-8")
    (folder / "empty.tif").touch()
    return folder


def require_told(rows: dict[str, dict[str, str]], folder: Path) -> None:
    """Each bad slide has one line with file, what is wrong, what was expected and the remedy."""
    bad = {path.stem: path for path in folder.iterdir()}
    for name in GOOD:
        del bad[name]
    assert len(bad) > len(DAMAGE)
    for name, path in bad.items():
        row = rows[name]
        assert row["status"] == "failed", (name, row)
        assert path.name in row["error"], (name, row)
        assert "expected" in row["error"] and "\n" not in row["error"], (name, row)


def vectors(path: Path) -> NDArray[np.float32]:
    with h5py.File(path) as file:
        return np.asarray(file["features"][()])


def test_encoding_goes_on(slides: Path, flow: TinyFlow, tmp_path: Path) -> None:
    options = {"output_dir": tmp_path / "all", "encoder": flow.encoder, "job#engine": "torch", **ON_CPU}
    ended = run_command("encoding", "encode.yaml", cwd=tmp_path, options={"slides": slides, **options})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    rows = {row["slide_id"]: row for row in read_rows(tmp_path / "all" / "manifest.csv")}
    require_told(rows, slides)
    assert [rows[name]["status"] for name in GOOD] == ["done"] * len(GOOD)
    alone = {**options, "output_dir": tmp_path / "alone", "slides": slides / "z_good.tif"}
    assert run_command("encoding", "encode.yaml", cwd=tmp_path, options=alone).returncode == 0
    assert np.array_equal(vectors(tmp_path / "all" / "z_good.h5"), vectors(tmp_path / "alone" / "z_good.h5"))


def test_sampling_goes_on(slides: Path, tmp_path: Path) -> None:
    options = {
        "slides": slides,
        "output_dir": tmp_path / "patches",
        "draw#patches_per_slide": 4,
        "draw#rich_share": 0.0,
    }
    ended = run_command("sampling", "sample.yaml", cwd=tmp_path, options={**options, "draw#slides_per_class": 99})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    rows = {row["slide_id"]: row for row in read_rows(tmp_path / "patches" / "counts.csv")}
    assert [int(rows[name]["patches"]) for name in GOOD] == [4] * len(GOOD)
    for path in slides.iterdir():
        if path.stem not in GOOD:
            assert path.name in rows[path.stem]["error"] and "expected" in rows[path.stem]["error"], rows[path.stem]


def test_inference_goes_on(slides: Path, flow: TinyFlow, tmp_path: Path) -> None:
    options = {"slides": slides, "output_dir": tmp_path / "out", "job#engine": "torch", **flow.trained, **ON_CPU}
    ended = run_command("inference", "inference.yaml", cwd=tmp_path, options=options)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    require_told({row["slide_id"]: row for row in read_rows(tmp_path / "out" / "manifest.csv")}, slides)
    assert [row["slide_id"] for row in read_rows(tmp_path / "out" / "predictions.csv")] == list(GOOD)


def test_doctor_goes_on(slides: Path, tmp_path: Path) -> None:
    ended = run_command("doctor", "doctor.yaml", cwd=tmp_path, options={"slides": slides})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    lines = ended.stdout.splitlines()
    for name in GOOD:
        assert any(line.split()[:1] == [name] and "um/px" in line for line in lines), ended.stdout
    for path in slides.iterdir():
        if path.stem not in (*GOOD, *IN_A_TILE):
            assert any(path.name in line and "expected" in line for line in lines), (path.name, ended.stdout)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_does_not_stop_the_others(slides: Path, flow: TinyFlow, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "slides")
    os.mkdir(folder)
    for name in (b"\xff\xfe.tif", b"z.tif"):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes((slides / "a_good.tif").read_bytes())
    options = {"slides": tmp_path / "slides", "output_dir": tmp_path / "out", "encoder": flow.encoder, **ON_CPU}
    ended = run_command("encoding", "encode.yaml", cwd=tmp_path, options={**options, "job#engine": "torch"})
    assert ended.returncode in (0, 1) and "Traceback" not in ended.stderr, ended.stderr
    rows = read_rows(tmp_path / "out" / "manifest.csv")
    assert {row["slide_id"]: row["status"] for row in rows}["z"] == "done" and len(rows) == 2
