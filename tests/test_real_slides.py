"""Real files of every kind through the trained tiny networks, in one command as a user gives it."""

import re
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny_flow import ON_CPU, TinyFlow, read_rows, run_command

pytest_plugins = ["tiny_flow_fixture"]

GOOD = {"cmu-1-small-region.svs": "", "14082.tif": "", "tcga-cr-7395-01a-01-ts1.svs": "0.5"}
EMPTY = {"test3-DAPI-387.ndpi": ""}
FAILED = {
    "multiframe_camelyon_challenge_image.dcm": r"28\.97 x 28\.97 um/px, expected 0\.05 to 10.*column mpp",
    "pathml_small_dicom.dcm": "cannot be read",
    "pathml_small_HE_levels.tiff": r"352\.9 x 352\.9 um/px, expected 0\.05 to 10.*column mpp",
}


@pytest.fixture(scope="module")
def outcome(
    flow: TinyFlow, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Output folder and result of inference over a CSV of all slides."""
    folder = tmp_path_factory.mktemp("real")
    names = {**GOOD, **EMPTY, **dict.fromkeys(FAILED, "")}
    missing = [name for name in names if not (data_dir / "slides" / name).is_file()]
    if missing:
        pytest.skip(f"not there: {', '.join(missing)}")
    lines = [f"{data_dir / 'slides' / name},{mpp}" for name, mpp in names.items()]
    (folder / "slides.csv").write_text("\n".join(["slide,mpp", *lines]) + "\n")
    options = {"slides": "slides.csv", "output_dir": "out", **flow.trained, **ON_CPU}
    return folder / "out", run_command("inference", "inference.yaml", cwd=folder, options=options)


def test_exit_code_and_message(outcome: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, result = outcome
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: 3 of 7 slides failed, all others are done")
    assert "Traceback" not in result.stderr
    assert "nvjpeg" not in (result.stdout + result.stderr).lower()


def test_manifest(outcome: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, _ = outcome
    rows = {Path(row["slide"]).name: row for row in read_rows(output / "embeddings" / "manifest.csv")}
    expected = {**dict.fromkeys(GOOD, "done"), **dict.fromkeys(EMPTY, "empty"), **dict.fromkeys(FAILED, "failed")}
    assert {name: row["status"] for name, row in rows.items()} == expected
    for name, message in FAILED.items():
        assert name in rows[name]["error"]
        assert re.search(message, rows[name]["error"]), rows[name]["error"]
    assert all(int(rows[name]["patches"]) > 50 for name in GOOD)


def test_predictions_and_heat_maps(outcome: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, _ = outcome
    rows = read_rows(output / "predictions.csv")
    assert [row["slide_id"] for row in rows] == [Path(name).stem for name in GOOD]
    for row in rows:
        assert float(row["p_0"]) + float(row["p_1"]) == pytest.approx(1)
        maps = {"cam.geojson", "cam.nii.gz", "cam.ome.tif", "cam.png", "cam.xml"}
        written = {path.name for path in (output / row["slide_id"]).iterdir()}
        assert written == maps | {"observed.png", "scores.json", "thumbnail.png"}


@pytest.mark.parametrize(
    ("name", "mpp", "patch_px"),
    [("cmu-1-small-region", 0.499, 128), ("14082", 4.0, 16), ("tcga-cr-7395-01a-01-ts1", 0.5, 128)],
)
def test_embeddings(
    outcome: tuple[Path, subprocess.CompletedProcess[str]], name: str, mpp: float, patch_px: int
) -> None:
    output, _ = outcome
    with h5py.File(output / "embeddings" / f"{name}.h5") as file:
        rows, columns = file.attrs["grid_shape"]
        assert file.attrs["mpp_x"] == pytest.approx(mpp, rel=1e-3)
        assert file["coords"].attrs["patch_size_level0"] == patch_px
        assert file["thumbnail"].shape == (2 * rows, 2 * columns, 9)
        features, grid = file["features"][:], file["grid"][:]
        assert np.isfinite(features).all()
        assert (features.std(axis=0) > 0).sum() > 20, "patches of a real section differ"
        np.testing.assert_array_equal(grid.min(axis=0), 0)
        np.testing.assert_array_equal(grid.max(axis=0) + 1, [rows, columns])
        corners = file["coords"][:]
        np.testing.assert_array_equal(corners, file.attrs["origin_xy_px"] + patch_px * grid[:, ::-1])
        assert (corners + patch_px <= file.attrs["slide_size_xy_px"] + patch_px).all()
