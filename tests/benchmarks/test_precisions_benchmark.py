from pathlib import Path

import numpy as np
import pytest
from precisions import main

from scripts.encoding.writer import append_rows, embedding_writer, write_attributes


def write(folder: Path, features: np.ndarray, precision: str) -> Path:
    grid = np.array([(0, column) for column in range(len(features))], dtype=np.int32)
    with embedding_writer(folder / "a.h5", patches=len(grid), channels=features.shape[1]) as file:
        append_rows(file, features=features, grid=grid, coords=grid[:, ::-1] * 256)
        file["coords"].attrs["patch_size_level0"] = 256
        stated = {"format": "dsnet-embedding/1", "grid_shape": np.array((1, len(grid))), "precision": precision}
        write_attributes(file, stated)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four patches of a channel with spread 1, one with spread 2 and one that is constant; one number differs by 0.5."""
    exact = np.array([[1.0, 2.0, 5.0], [3.0, 6.0, 5.0], [1.0, 6.0, 5.0], [3.0, 2.0, 5.0]])
    rounded = exact.copy()
    rounded[0, 0] += 0.5
    return write(tmp_path / "float32", exact, "float32"), write(tmp_path / "bfloat16", rounded, "bfloat16")


def run(monkeypatch: pytest.MonkeyPatch, exact: Path, rounded: Path) -> None:
    monkeypatch.setattr("sys.argv", ["precisions.py", "--float32", str(exact), "--bfloat16", str(rounded)])
    main()


def test_deviations_are_relative_to_the_spread_of_their_channel(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *folders)
    printed = capsys.readouterr().out
    assert "1 slides, 4 patches, 3 channels" in printed
    assert "| largest | 0.5000 |" in printed
    assert "| mean | 0.0625 |" in printed, "0.5 in one of 8 numbers; the constant channel has no spread"
    assert "| over 1 | 0 of 8 numbers, in 0 channels |" in printed
    assert "| mean of the channel with the largest mean | 0.1250 |" in printed


def test_folders_that_were_taken_for_each_other_are_refused(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"a\.h5: encoded in bfloat16, expected float32"):
        run(monkeypatch, *reversed(folders))
