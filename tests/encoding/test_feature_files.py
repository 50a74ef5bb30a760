"""Odd feature files: read with the right grid, or refused by name; the others of a set do not suffer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scripts.common.errors import SlideError
from scripts.encoding.embedding_file import header_of, read_embedding

GRID_YX = np.argwhere(np.ones((6, 5), dtype=bool))
XY = GRID_YX[:, ::-1] * 512
FEATURES = np.random.default_rng(0).normal(size=(len(XY), 4)).astype(np.float32)
ALIKE = 1 + 0.005 * FEATURES
"""Vectors of an encoder that tells little of a patch."""


def write(path: Path, *, features: Any = FEATURES, coords: Any = XY, **attributes: Any) -> Path:
    """Write what TRIDENT writes; an attribute of None is left out."""
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, coords
        stated = {"patch_size": 256, "patch_size_level0": 512, "overlap": 0, **attributes}
        file["coords"].attrs.update({name: value for name, value in stated.items() if value is not None})
    return path


def changed(values: np.ndarray, row: int, value: Any) -> np.ndarray:
    values = values.astype(np.result_type(values, np.asarray(value)))
    values[row] = value
    return values


@pytest.mark.parametrize(
    "made",
    [
        {"patch_size_level0": "512"},
        {"patch_size_level0": 512.0},
        {"patch_size_level0": np.array([512])},
        {"patch_size_level0": np.array([512, 512])},
        {"patch_size_level0": None},
        {"patch_size": 0},
        {"overlap": np.array([0])},
        {"features": FEATURES.astype(np.float64)},
        {"features": (100 * FEATURES).astype(np.int16)},
        {"features": FEATURES[None], "coords": XY[None]},
        {"coords": XY - 1500},
        {"coords": XY + 0.001},
        {"coords": (XY + 150_000).astype(np.float32) * np.float32(0.2527) / np.float32(0.2527)},
        {"unit": "px"},
        {"unit": b"Pixels"},
        {"unit": ""},
        {"features": np.r_[FEATURES, FEATURES[:1] * 0], "coords": np.r_[XY + 60_000, [[0, 0]]]},
        {"features": np.r_[FEATURES, FEATURES[:2]], "coords": np.r_[XY, XY[:2]]},
        {"features": np.r_[ALIKE, ALIKE[:2].astype(np.float16)], "coords": np.r_[XY, XY[:2]]},
        {"features": np.r_[FEATURES, FEATURES[:2] + 0.05], "coords": np.r_[XY, XY[:2]]},
    ],
    ids=str,
)
def test_read_with_the_right_grid(tmp_path: Path, made: dict[str, Any]) -> None:
    embedding = read_embedding(write(tmp_path / "a.h5", **made))
    assert (embedding.shape_yx, embedding.patch_px_level0) == ((6, 5), 512)
    np.testing.assert_array_equal(embedding.grid_yx, GRID_YX)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"overlap": "NA"}, "attribute overlap of coords is 'NA', expected a whole number"),
        ({"overlap": 256}, "overlap of coords is 256 of patches of 256 px"),
        ({"overlap": 64, "patch_size": 0}, "attribute patch_size of coords is '0'"),
        ({"patch_size_level0": 0}, "attribute patch_size_level0 of coords is '0'"),
        ({"patch_size_level0": -512}, "is '-512'"),
        ({"patch_size_level0": np.nan}, "is 'nan'"),
        ({"patch_size_level0": 2**31}, "from 1 to 65536|1 to 65536"),
        ({"patch_size_level0": np.array([512, 256])}, r"is '\[512 256\]'"),
        ({"coords": changed(XY, 3, np.nan)}, "coords hold NaN or values beyond any slide"),
        ({"coords": changed(XY, 3, 2**31)}, "coords hold NaN or values beyond any slide"),
        ({"coords": changed(XY, 3, 2**31 - 1)}, "30 patches on a grid of 4194305 x 4194305 cells"),
        ({"coords": np.r_[XY[1:] + 200_000, [[-1, -1]]]}, r"1 patches at \(-1, -1\)"),
        (
            {"coords": changed(XY, 3, XY[8])},
            "1 patches have the corner of another one and other vectors, the first at x 1536, y 512",
        ),
        ({"coords": changed(XY, 3, XY[8]), "features": ALIKE}, "1 patches have the corner of another one"),
        ({"coords": XY * 0.2527}, "28 patches lie between pixels, the first at .*round coords in pixels; divide those"),
        (
            {"coords": changed(XY, 3, [1536, 511.5])},
            "1 patches lie between pixels, the first at x 1536.00, y 511.50; exp",
        ),
        (
            {"unit": "um"},
            "attribute unit of coords or of the file is 'um', expected 'px', level-0 pixels\\. .*; divide those",
        ),
        ({"unit": np.array(["um", "um"], dtype=object)}, "attribute unit of coords or of the file is"),
        ({"coords": XY.astype("S8")}, "coords of type .S8, expected numbers"),
        ({"coords": XY.T}, r"coords \(2, 30\), expected \(N, 2\)"),
        ({"coords": np.c_[XY, XY]}, r"coords \(30, 4\), expected"),
        ({"features": FEATURES[0]}, r"features \(4,\), expected \(N, C\)"),
        ({"features": FEATURES > 0}, "features of type bool, expected numbers"),
        ({"features": FEATURES.astype(np.complex64)}, "features of type complex64"),
        ({"features": 1e300 * FEATURES.astype(np.float64)}, "features hold NaN or infinity"),
    ],
    ids=str,
)
def test_refused_by_name(tmp_path: Path, made: dict[str, Any], message: str) -> None:
    with pytest.raises(SlideError, match=rf"a\.h5: .*({message})") as error:
        read_embedding(write(tmp_path / "a.h5", **made))
    assert "\n" not in str(error.value)


def test_micrometres_of_the_whole_file(tmp_path: Path) -> None:
    """As STAMP writes it, with a dataset renamed."""
    path = write(tmp_path / "a.h5", coords=XY.astype(np.float32), patch_size_level0=None)
    with h5py.File(path, "a") as file:
        file.attrs.update({"unit": "um", "tile_size_um": 256.0})
    with pytest.raises(SlideError, match=r"a\.h5: attribute unit of coords or of the file is 'um', expected 'px'"):
        read_embedding(path)


def _datasets(path: Path, **values: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, content in values.items():
            file[name.replace("__", "/")] = content


def _unbounded(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (1 << 40, 4), "f4", chunks=(4096, 4))


def _linked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: _datasets(path, features__uni=FEATURES, coords=XY),
            r"features is a group \(uni\), expected the datasets features \(N, C\) and coords \(N, 2\), .*: name the folder",
        ),
        (
            lambda path: _datasets(path, feats=FEATURES, coords=XY),
            r"no dataset 'features' \(it has coords, feats\), expected the datasets features \(N, C\)",
        ),
        (
            lambda path: _datasets(path, features=FEATURES),
            r"no dataset 'coords' \(it has features\), expected the datasets",
        ),
        (
            lambda path: _datasets(path, features=FEATURES[0], coords=XY),
            r"features \(4,\), expected \(N, C\), one vector per patch: name the folder of the patch features",
        ),
        (_unbounded, "states 17592186044416 bytes"),
        (_linked, "is a link to another file"),
        (Path.mkdir, r"not a readable HDF5 file \(Is a directory\)"),
        (Path.touch, "not a readable HDF5 file"),
        (lambda path: path.write_bytes(write(path).read_bytes()[:1500]), "not a readable HDF5 file"),
    ],
)
def test_what_is_no_feature_file(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path / "a.h5")
    for read in (read_embedding, header_of):
        with pytest.raises(SlideError, match=rf"a\.h5: .*{message}") as error:
            read(tmp_path / "a.h5")
        assert "\n" not in str(error.value)
