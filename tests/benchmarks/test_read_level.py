from pathlib import Path

import numpy as np
import pytest
from read_level import cosine, main, pairs

from scripts.encoding.writer import append_rows, embedding_writer, write_attributes

STEP_PX = 256


def write(path: Path, grid_yx: list[tuple[int, int]], features: np.ndarray, read_level: int) -> None:
    grid = np.array(grid_yx, dtype=np.int32)
    with embedding_writer(path, patches=len(grid), channels=features.shape[1]) as file:
        append_rows(file, features=features, grid=grid, coords=grid[:, ::-1] * STEP_PX)
        file["coords"].attrs["patch_size_level0"] = STEP_PX
        write_attributes(
            file, {"format": "dsnet-embedding/1", "grid_shape": np.array((4, 4)), "read_level": read_level}
        )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One slide of which both hold three patches of four."""
    places = [(0, 0), (0, 1), (1, 2), (3, 3)]
    features = np.array([[1.0, 2.0, 2.0], [3.0, 0.0, 4.0], [1.0, 1.0, 1.0], [2.0, 5.0, 1.0]])
    highest, auto = tmp_path / "highest", tmp_path / "auto"
    write(highest / "a.h5", places, features, 0)
    write(auto / "a.h5", [*places[1:], (2, 0)], np.concatenate([2 * features[1:3], -features[3:], features[:1]]), 1)
    return highest, auto


def test_patches_are_compared_place_by_place(folders: tuple[Path, Path]) -> None:
    ((name, level0, lower),) = pairs(*folders)
    assert (name, len(level0)) == ("a", 3)
    np.testing.assert_allclose(cosine(level0, lower), [1, 1, -1])


def test_zeros_agree_with_zeros_alone() -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert cosine(zero, zero)[0] == 1
    assert cosine(zero, one)[0] == cosine(one, zero)[0] == 0


def test_table(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["read_level.py", "--highest", str(folders[0]), "--auto", str(folders[1])])
    main()
    printed = capsys.readouterr().out
    assert "1 slides, 3 patches in both" in printed
    assert "| of v | -0.8000 | 1.0000 |" in printed


def test_folders_that_were_read_alike_are_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(SystemExit, match="expected level 0 and a lower one"):
        list(pairs(folders[1], folders[0]))
