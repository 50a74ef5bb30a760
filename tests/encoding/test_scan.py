"""A slide without a pyramid in one pass."""

from pathlib import Path

import numpy as np
import pytest
import torch
from encoding.painted import (
    PATCH_PX,
    CountingSlide,
    MeanEncoder,
    contents,
    on_glass,
    paint,
    quarter_colours,
    write_tiff,
)

from scripts.common.errors import NoTissueError
from scripts.encoding.embed import embed_slide
from scripts.encoding.embedding_file import header_of
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.prepared import plan_of
from scripts.encoding.scan import Spool, serves_all
from scripts.encoding.settings import EncodingSettings
from scripts.slides.opening import open_slide
from scripts.slides.table import SlideRow


def embed(slide: Path, target: Path, **settings: object) -> int:
    encoder = NamedEncoder(MeanEncoder(), device=torch.device("cpu"), batch_size=5)
    return embed_slide(SlideRow("case", slide), target, encoder=encoder, settings=EncodingSettings(**settings))


@pytest.fixture
def flat_slide(tmp_path: Path) -> Path:
    """4 x 5 patches of tissue at row 2, column 3 of 9 x 11 patches of glass, the last ones cut by the border."""
    pixels = on_glass(paint(quarter_colours(4, 5)), size_xy_px=(333, 275), corner_xy_px=(3 * PATCH_PX, 2 * PATCH_PX))
    return write_tiff(tmp_path / "case.tif", [pixels])


def test_one_pass_writes_what_three_passes_write(
    flat_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embed(flat_slide, tmp_path / "one" / "case.h5") == 20
    monkeypatch.setattr("scripts.encoding.embed.serves_all", lambda *_: False)
    assert embed(flat_slide, tmp_path / "three" / "case.h5") == 20
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


@pytest.mark.parametrize(("drop_pen", "patches"), [(True, 15), (False, 20)])
def test_one_pass_drops_the_pen_that_three_passes_drop(
    drop_pen: bool, patches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = quarter_colours(4, 5).astype(np.float64)
    colours[2:4] = (44, 100, 60)  # a green stroke over the second row of patches
    pixels = on_glass(paint(colours.astype(np.uint8)), size_xy_px=(333, 275), corner_xy_px=(3 * PATCH_PX, 2 * PATCH_PX))
    slide = write_tiff(tmp_path / "case.tif", [pixels])
    assert embed(slide, tmp_path / "one" / "case.h5", drop_pen=drop_pen) == patches
    monkeypatch.setattr("scripts.encoding.embed.serves_all", lambda *_: False)
    assert embed(slide, tmp_path / "three" / "case.h5", drop_pen=drop_pen) == patches
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_glass_is_not_encoded(flat_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, seen = NamedEncoder.encode, []
    monkeypatch.setattr(
        NamedEncoder, "encode", lambda self, patches: seen.append(len(patches)) or encode(self, patches)
    )
    embed(flat_slide, tmp_path / "one.h5")
    assert 20 <= sum(seen) < 30


def test_every_patch_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "case.tif").touch()
    slide = CountingSlide(tmp_path / "case.tif", size_xy_px=(40 * PATCH_PX, 30 * PATCH_PX))
    slide.tile_sizes_xy_px = ((3 * PATCH_PX, 2 * PATCH_PX),)
    monkeypatch.setattr("scripts.encoding.embed.open_slide", lambda *_, **__: slide)
    assert embed(tmp_path / "case.tif", tmp_path / "case.h5") == 40 * 30
    assert sum(slide.reads_bytes) == (42 * 30) * PATCH_PX**2 * 3, "whole tiles, each once"


def test_a_pyramid_or_otsu_is_not_scanned(flat_slide: Path, tmp_path: Path) -> None:
    pyramid = write_tiff(
        tmp_path / "pyramid.tif", [np.full((side, side, 3), 200, np.uint8) for side in (1024, 512, 256)], mpp=0.5
    )
    for slide, settings, expected in (
        (flat_slide, EncodingSettings(), True),
        (flat_slide, EncodingSettings(tissue_method="otsu"), False),
        (pyramid, EncodingSettings(), False),
        (pyramid, EncodingSettings(read_level="highest"), False),
    ):
        with open_slide(slide) as reader:
            assert serves_all(reader, plan_of(reader, SlideRow("case", slide), settings), settings) is expected


def test_a_flat_slide_of_glass_is_empty_and_leaves_nothing(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "case.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)])
    with pytest.raises(NoTissueError):
        embed(slide, tmp_path / "out" / "case.h5")
    assert not list((tmp_path / "out").iterdir())


def test_the_spool_gives_back_the_observed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.encoding.scan.SPOOL_ROWS", 3)
    observed = np.zeros(12, dtype=bool)
    observed[[1, 6, 11]] = True
    with Spool(tmp_path, channels=2) as spool:
        spool.append(np.array([0, 1, 5]), np.array([[0, 0], [1, 1], [5, 5]], dtype=np.float32))
        spool.append(np.array([6, 11]), np.array([[6, 6], [11, 11]], dtype=np.float32))
        assert list(tmp_path.iterdir()) == [], "a killed run leaves nothing"
        rows = np.concatenate(list(spool.take(observed)))
    np.testing.assert_array_equal(rows, [[1, 1], [6, 6], [11, 11]])


def test_the_slide_is_kept_by_its_parameters(flat_slide: Path, tmp_path: Path) -> None:
    embed(flat_slide, tmp_path / "one.h5")
    assert header_of(tmp_path / "one.h5").attributes["patches_left_out"] == 0
