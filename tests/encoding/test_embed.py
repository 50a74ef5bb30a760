import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from encoding.on_grid import matrix_of
from encoding.painted import (
    PATCH_PX,
    CountingSlide,
    MeanEncoder,
    on_glass,
    paint,
    quarter_colours,
    write_painted_slide,
    write_tiff,
)

from scripts.common.errors import NoTissueError, RequestError, SlideError
from scripts.encoding.embed import compression_ratio, embed_slide, joined
from scripts.encoding.embedding_file import read_embedding
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.settings import EncodingSettings
from scripts.slides.table import SlideRow

LAYOUT = {"features": ("float32", (12, 6)), "coords": ("int64", (12, 2)), "grid": ("int32", (12, 2))}


def named(weight: float = 1.0, *, batch_size: int = 5) -> NamedEncoder:
    return NamedEncoder(MeanEncoder(weight), device=torch.device("cpu"), batch_size=batch_size)


def embed(slide: Path, target: Path, *, mpp: float | None = None, **settings: object) -> int:
    row = SlideRow(slide.stem, slide, mpp=mpp)
    return embed_slide(row, target, encoder=named(), settings=EncodingSettings(**settings))


def test_layout_of_the_file(tmp_path: Path) -> None:
    slide = write_painted_slide(tmp_path / "case.tif", rows=3, columns=4)
    assert embed(slide, tmp_path / "case.h5") == 12
    with h5py.File(tmp_path / "case.h5") as file:
        for name, (dtype, shape) in LAYOUT.items():
            assert (file[name].dtype, file[name].shape) == (np.dtype(dtype), shape), name
        assert (file["thumbnail"].dtype, file["thumbnail"].shape) == (np.dtype("uint8"), (6, 8, 9))
        assert file["features"].chunks[0] > 1
        assert dict(file["coords"].attrs) == {"patch_size_level0": PATCH_PX, "name": "case"}
        root = dict(file.attrs)
        assert file["tissue"].attrs["method"] == "rle"
        assert file["tissue/scores"].shape == (3, 4)
        assert file["tissue/histogram_counts"][:].sum() == 12
    assert root["format"] == "dsnet-embedding/1"
    assert root["slide"] == "case.tif"
    np.testing.assert_array_equal(root["grid_shape"], [3, 4])
    np.testing.assert_array_equal(root["origin_xy_px"], [0, 0])
    assert (root["patch_um"], root["read_level"], root["patch_size_level0"]) == (64.0, 0, PATCH_PX)
    assert root["mpp_x"] == pytest.approx(2.0)
    assert root["mpp_y"] == pytest.approx(2.0)
    assert root["encoder"].startswith("MeanEncoder sha256:")
    assert len(root["encoder"].split(":")[1]) == 64
    assert 0 < root["tissue_threshold"] < 1
    assert root["compression_ratio"] == pytest.approx(compression_ratio(6, 3))
    assert root["compression_ratio_bytes"] == pytest.approx(96 * 128 * 3 / (4 * 12 * 6 + 6 * 8 * 9))
    assert {"version_bundle", "version_monai", "version_torch"} <= set(root)
    assert json.loads(root["parameters"])["patch_um"] == 64.0


def test_features_are_those_of_each_patch_by_itself(tmp_path: Path) -> None:
    """A quarter has 16 px and the encoder sees 16 px per patch: its means are those of the painted colours."""
    colours = quarter_colours(3, 4).astype(np.float64)
    slide = write_painted_slide(tmp_path / "case.tif", rows=3, columns=4)
    embed(slide, tmp_path / "case.h5")
    embedding = read_embedding(tmp_path / "case.h5")
    expected = [
        [*colours[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].mean(axis=(0, 1)), *colours[2 * row, 2 * col]]
        for row, col in embedding.grid_yx
    ]
    np.testing.assert_allclose(embedding.features, np.array(expected) / 255, atol=1e-5)
    assert matrix_of(embedding).shape == (6, 3, 4)
    np.testing.assert_allclose(matrix_of(embedding)[3:, 2, 1] * 255, colours[4, 2], atol=1e-3)


def test_features_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    slide = write_painted_slide(tmp_path / "case.tif")
    found = []
    for batch_size in (1, 5, 64):
        path = tmp_path / f"{batch_size}.h5"
        encoder = named(batch_size=batch_size)
        embed_slide(SlideRow("case", slide), path, encoder=encoder, settings=EncodingSettings())
        found.append(read_embedding(path).features)
    for features in found[1:]:
        np.testing.assert_allclose(features, found[0], atol=1e-6)


def test_batches_are_joined_in_order_before_they_are_written() -> None:
    readable = [
        np.ones(5, dtype=bool),
        np.array([True, False, True, True, True]),
        np.zeros(5, dtype=bool),
        np.ones(2, dtype=bool),
    ]
    values = iter(range(100))
    batches = [
        (np.array([[next(values)] for _ in range(mask.sum())], dtype=np.float32).reshape(-1, 1), mask)
        for mask in readable
    ]
    first, second = joined(iter(batches), 8)
    assert (first[0].ravel().tolist(), len(first[1])) == (list(range(9)), 10)
    assert (second[0].ravel().tolist(), len(second[1])) == ([9, 10], 7)
    np.testing.assert_array_equal(np.concatenate([first[1], second[1]]), np.concatenate(readable))
    assert list(joined(iter(()), 8)) == []
    of_wide = [len(mask) for _, mask in joined(iter(batches), 8, most_bytes=4 * 5)]
    assert of_wide == [5, 10, 2], "wide features are written as soon as they have that many bytes"


def test_crop_to_the_box_moves_grid_coords_and_thumbnail_together(tmp_path: Path) -> None:
    """Tissue at row 2, column 3 of a grid that does not divide the slide."""
    colours = quarter_colours(4, 5)
    pixels = on_glass(paint(colours), size_xy_px=(333, 275), corner_xy_px=(3 * PATCH_PX, 2 * PATCH_PX))
    slide = write_tiff(tmp_path / "case.tif", [pixels])
    assert embed(slide, tmp_path / "case.h5") == 20
    embedding = read_embedding(tmp_path / "case.h5")
    assert embedding.shape_yx == (4, 5)
    np.testing.assert_array_equal(embedding.attributes["origin_xy_px"], [3 * PATCH_PX, 2 * PATCH_PX])
    corner = np.array([3 * PATCH_PX, 2 * PATCH_PX])
    np.testing.assert_array_equal(embedding.coords_xy_px, corner + PATCH_PX * embedding.grid_yx[:, ::-1])
    np.testing.assert_array_equal(embedding.thumbnail[..., :3], colours)
    for feature, (row, column) in zip(embedding.features, embedding.grid_yx, strict=True):
        np.testing.assert_allclose(feature[3:] * 255, colours[2 * row, 2 * column], atol=1e-3)


def test_the_last_column_may_lie_partly_past_the_border(tmp_path: Path) -> None:
    """The slide ends 4 px before the last column of patches does: what is missing is white, in V and in T."""
    colours = quarter_colours(3, 4).astype(np.float64)
    pixels = paint(quarter_colours(3, 4))[:, : 4 * PATCH_PX - 4]
    slide = write_tiff(tmp_path / "case.tif", [pixels])
    assert embed(slide, tmp_path / "case.h5") == 12
    embedding = read_embedding(tmp_path / "case.h5")
    np.testing.assert_array_equal(embedding.thumbnail[:, :7, :3], colours[:, :7])
    border = (12 * colours[:, 7] + 4 * 255) / 16
    np.testing.assert_array_equal(embedding.thumbnail[:, 7, :3], border.round())
    (last,) = np.flatnonzero((embedding.grid_yx == (1, 3)).all(axis=1))
    expected = np.stack([colours[2, 6], border[2], colours[3, 6], border[3]]).mean(axis=0)
    np.testing.assert_allclose(embedding.features[last, :3] * 255, expected, atol=1e-3)


def test_unobserved_patches_of_the_box_are_zero(tmp_path: Path) -> None:
    pixels = paint(quarter_colours(4, 4))
    pixels[PATCH_PX : 2 * PATCH_PX, PATCH_PX : 2 * PATCH_PX] = 244
    slide = write_tiff(tmp_path / "case.tif", [pixels])
    assert embed(slide, tmp_path / "case.h5") == 15
    matrix = matrix_of(read_embedding(tmp_path / "case.h5"))
    observed = np.ones((4, 4), dtype=bool)
    observed[1, 1] = False
    np.testing.assert_array_equal((matrix != 0).any(axis=0), observed)


def test_the_table_supplies_the_resolution(tmp_path: Path) -> None:
    slide = write_painted_slide(tmp_path / "case.tif", rows=4, columns=4)
    assert embed(slide, tmp_path / "case.h5", mpp=1.0) == 4
    embedding = read_embedding(tmp_path / "case.h5")
    assert embedding.patch_px_level0 == 64
    assert embedding.attributes["mpp_x"] == 1.0


def test_nothing_is_written_for_a_slide_without_tissue(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "case.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)])
    with pytest.raises(NoTissueError, match="no patch has the texture"):
        embed(slide, tmp_path / "out" / "case.h5")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("error", [SlideError("stop"), OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    slide = write_painted_slide(tmp_path / "case.tif")
    calls = []

    def encode(self: NamedEncoder, patches: np.ndarray) -> np.ndarray:
        calls.append(sorted(path.name for path in (tmp_path / "out").iterdir()))
        if len(calls) == 2:
            raise error
        return np.ones((len(patches), self.channels), dtype=np.float32)

    monkeypatch.setattr(NamedEncoder, "encode", encode)
    with pytest.raises(type(error)):
        embed(slide, tmp_path / "out" / "case.h5")
    assert "case.h5" not in calls[0] + calls[1]
    assert not list((tmp_path / "out").iterdir())


def test_memory_does_not_grow_with_the_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "case.tif").touch()
    largest = []
    for columns in (80, 160):
        slide = CountingSlide(tmp_path / "case.tif", size_xy_px=(columns * PATCH_PX, 2 * PATCH_PX))
        monkeypatch.setattr("scripts.encoding.embed.open_slide", lambda *_, slide=slide, **__: slide)
        assert embed(tmp_path / "case.tif", tmp_path / "case.h5") == 2 * columns
        largest.append(max(slide.reads_bytes))
    assert largest[0] == largest[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patch_um", 0),
        ("read_level", "lowest"),
        ("read_level", -1),
        ("tissue_method", "hsv"),
        ("drop_pen", "no"),
        ("thumbnail_levels", 0),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"{name} {value!r}: expected"):
        EncodingSettings(**{name: value})


def test_compression_ratio_of_the_paper() -> None:
    assert compression_ratio(128, 3) == pytest.approx(229.5, abs=0.05)


def test_identity_is_that_of_the_weights() -> None:
    assert named(1.0).identity == named(1.0).identity
    assert named(1.0).identity != named(1.5).identity
