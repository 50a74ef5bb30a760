"""Raw patches in V's place: exact in the file, and from the slide to a prediction."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny_flow import ON_CPU, read_rows, run_config

from scripts.common.errors import RequestError
from scripts.encoding.raw import RawPatches
from scripts.slides.opening import open_slide
from scripts.slides.synthetic import write_tiny_slide_set
from scripts.training.card import read_card

SIDE_PX = 32


def test_from_slides_to_predictions(tmp_path: Path) -> None:
    slides, raw, trained = write_tiny_slide_set(tmp_path / "slides"), tmp_path / "raw", tmp_path / "chen"
    side = {"encoder_def#side_px": SIDE_PX, **ON_CPU}
    run_config("encode.yaml", "encode_raw.yaml", run_id="encoding", slides=slides, output_dir=raw, **side)
    with h5py.File(raw / "train_000.h5") as file:
        assert file["features"].dtype == np.float16 and file["features"].shape[1] == 3 * SIDE_PX**2
        assert file.attrs["encoder"].startswith(f"RawPatches-{SIDE_PX}px sha256:")
        features, coords = file["features"][0].astype(np.float32), file["coords"][0]
        read_px, level = int(file.attrs["read_px"]), int(file.attrs["read_level"])
    with open_slide(next(Path(row["slide"]) for row in rows_of(slides) if "train_000" in row["slide"])) as reader:
        (patch,) = next(reader.iter_patches(coords[None], size_xy_px=(read_px, read_px), level=level, batch_size=1))
    np.testing.assert_allclose(features.reshape(3, -1).mean(axis=1), patch.reshape(-1, 3).mean(axis=0), atol=0.5)
    overlays = ("baselines/chen.yaml", "raw_patches.yaml")
    run_config("train.yaml", *overlays, run_id="training", dataset_dir=raw, output_dir=trained, max_epochs=1, **ON_CPU)
    assert read_card(trained / "model.pt").network["patch_network"] == "resnet18"
    one = slides.parent / "slides" / "test_000.tif"
    folders = {"slides": one, "output_dir": tmp_path / "out", "model": trained / "model.pt"}
    run_config("inference.yaml", "encode_raw.yaml", run_id="inference", **folders, **side)
    assert len(read_rows(tmp_path / "out" / "predictions.csv")) == 1
    assert list((tmp_path / "out").glob("*/cam.png"))


def rows_of(slides: Path) -> list[dict[str, str]]:
    folder = slides if slides.is_dir() else slides.parent
    return [{**row, "slide": str(folder / row["slide"])} for row in read_rows(folder / "slides.csv")]


def test_a_side_over_zero() -> None:
    with pytest.raises(RequestError, match="side_px"):
        RawPatches(0)
