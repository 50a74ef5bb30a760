"""Bad tiles of a pyramid: what they cost is what cannot be read on any level, and it is counted."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from encoding.bad_tiles import COLUMNS, ROWS, spoil, spoil_tile, take_out, write_pyramid
from encoding.encoding_requests import encode_all
from encoding.painted import MeanEncoder, on_glass, paint, quarter_colours, write_tiff

from scripts.encoding.embedding_file import header_of
from scripts.encoding.encoding_run import ManifestRow


def encode(slide: Path, output: Path, policy: str = "mask") -> ManifestRow:
    (entry,) = encode_all(slide, output, MeanEncoder, unreadable_tiles=policy)
    return entry


def arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in ("features", "coords", "grid", "thumbnail")}


def test_a_bad_tile_of_a_low_level_costs_nothing(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif")
    assert encode(slide, tmp_path / "whole").patches == ROWS * COLUMNS
    spoil(slide, 2, (2, 4))
    entry = encode(slide, tmp_path / "out")
    assert (entry.status, entry.patches, entry.error) == ("done", ROWS * COLUMNS, "")
    assert header_of(tmp_path / "out" / "a.h5").attributes["patches_left_out"] == 0
    whole, found = arrays(tmp_path / "whole" / "a.h5"), arrays(tmp_path / "out" / "a.h5")
    for name, values in whole.items():
        np.testing.assert_array_equal(found[name], values)


def test_who_asks_to_fail_fails_on_it(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif")
    spoil(slide, 2, (2, 4))
    entry = encode(slide, tmp_path / "out", "fail")
    assert entry.status == "failed"
    assert "level 2 cannot be decoded" in entry.error


def test_what_cannot_be_encoded_is_counted_once(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif")
    spoil(slide, 2, (2, 4))
    for level, patch_yx in ((1, (2, 4)), (0, (2, 4)), (0, (3, 5)), (0, (0, 0))):
        spoil(slide, level, patch_yx)
    entry = encode(slide, tmp_path / "out")
    assert (entry.status, entry.patches) == ("done", ROWS * COLUMNS - 3)
    assert entry.error.startswith("3 patches lie on unreadable tiles")
    found = arrays(tmp_path / "out" / "a.h5")
    assert not {(2, 4), (3, 5), (0, 0)} & {tuple(cell) for cell in found["grid"].tolist()}
    white = (found["thumbnail"][..., :3] == 255).all(axis=2)
    assert np.argwhere(white).tolist() == [[4, 8], [4, 9], [5, 8], [5, 9]], "the patch that is whole on no level"


def test_no_tissue_beside_unreadable_tiles_is_a_failure(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif", np.s_[2:4, 4:6])
    for level in range(3):
        for patch_yx in ((2, 4), (2, 5), (3, 4), (3, 5)):
            spoil(slide, level, patch_yx)
    entry = encode(slide, tmp_path / "out")
    assert (entry.status, entry.patches) == ("failed", 0)
    assert "a.tif: 4 of 48 patches lie on unreadable tiles and no tissue was found on the others" in entry.error


def test_nor_is_a_flat_slide_empty_whose_only_tissue_is_unreadable(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "a.tif", [on_glass(paint(quarter_colours(2, 2)), size_xy_px=(320, 256))])
    spoil_tile(slide, 0, 0)
    entry = encode(slide, tmp_path / "out")
    assert (entry.status, entry.patches) == ("failed", 0)
    assert "4 of 80 patches lie on unreadable tiles" in entry.error


def test_glass_that_a_finer_level_shows_is_empty(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif", np.s_[:0, :0])
    spoil(slide, 2, (2, 4))
    assert encode(slide, tmp_path / "out").status == "empty"


@pytest.mark.parametrize("mpp", [0.5, 2.0], ids=["pyramid", "flat"])
def test_features_that_are_not_finite_fail_the_slide(tmp_path: Path, mpp: float) -> None:
    slide = write_pyramid(tmp_path / "a.tif")
    if mpp == 2.0:
        write_tiff(slide, [paint(quarter_colours(3, 4))])

    class Broken(MeanEncoder):
        def forward(self, patches):
            features = super().forward(patches)
            features[0, 1] = float("nan")
            return features

    (entry,) = encode_all(slide, tmp_path / "out", Broken)
    assert entry.status == "failed"
    assert "a.tif: the encoder gave NaN or infinity for 1 of" in entry.error
    assert not list((tmp_path / "out").glob("*.h5"))


def test_tiles_that_the_first_level_lacks_under_tissue_are_not_taken_for_glass(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif")
    take_out(slide, 0, [34, 35, 50, 51])  # row 1, column 1 of the patches
    entry = encode(slide, tmp_path / "out", "fail")
    assert entry.status == "failed"
    assert "level 0 holds nothing at x 128, y 128 of level 0, where a coarser level shows tissue" in entry.error
    entry = encode(slide, tmp_path / "out", "mask")
    assert (entry.status, entry.patches) == ("done", ROWS * COLUMNS - 1)
    assert entry.error == "1 patches lie on unreadable tiles and were left out"


def test_tiles_that_no_level_has_are_glass(tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "a.tif", np.s_[2:, :])
    take_out(slide, 0, [2, 3, 18, 19])
    entry = encode(slide, tmp_path / "out", "fail")
    assert (entry.status, entry.patches) == ("done", (ROWS - 2) * COLUMNS)
