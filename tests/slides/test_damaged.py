"""Files that are really damaged, read by every backend that takes them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_server import command_server
from slides.unreadable import unreadable_tiles

from scripts.common.errors import RequestError, SlideError
from scripts.slides.jpeg2000 import is_whole_codestream
from scripts.slides.opening import Reading, open_slide

TILE_PX = 64
BAD = (1, 2)  # row and column of the damaged tile
BAD_TILES = [[2, 1]]  # column and row of all of them
GRID = np.array([(x, y) for y in range(0, 256, 32) for x in range(0, 320, 32)])
READ = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from scripts.slides.opening import Reading, open_slide
with open_slide(sys.argv[2], Reading(backend="cucim", unreadable_tiles="mask")) as reader:
    grid = np.array([(x, y) for y in range(0, 256, 32) for x in range(0, 320, 32)])
    list(reader.iter_patches(grid, size_xy_px=(32, 32), level=0, batch_size=8))
    width, height = reader.tile_sizes_xy_px[0]
    tiles = np.array([(0, 0), (width, 0), (0, height), (width, height)])
    print(reader.unreadable(tiles, size_xy_px=(width, height), level=0))
"""


@pytest.fixture(params=["cucim", "openslide", "tifffile"])
def backend(request):
    if request.param == "cucim":
        pytest.importorskip("cucim")
    return request.param


def write(path, *, compression="jpeg", levels=2):
    picture = np.random.default_rng(0).integers(60, 220, (32, 40, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            file.write(
                picture[:: 2**level, :: 2**level],
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression=compression,
                subfiletype=int(level > 0),
                metadata=None,
            )
    return picture


def damage(path, kind):
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        tile = BAD[0] * (page.imagewidth // TILE_PX) + BAD[1]
        offset, count = page.dataoffsets[tile], page.databytecounts[tile]
    with open(path, "r+b") as file:
        file.seek(offset + (count // 2 if kind == "half" else 0))
        length = count - count // 2 if kind == "half" else count
        file.write(np.random.default_rng(1).bytes(length) if kind == "noise" else bytes(length))


@pytest.mark.parametrize("kind", ["zeros", "noise", "half"])
def test_a_damaged_tile_fails_or_is_masked(tmp_path, backend, kind, capfd, monkeypatch):
    monkeypatch.setattr("scripts.slides.backends.cucim_reader.MAX_BATCH", 2)  # batches before and after that tile
    picture = write(tmp_path / "slide.tif")
    with open_slide(tmp_path / "slide.tif", Reading(backend=backend)) as reader:
        whole = np.concatenate(list(reader.iter_patches(GRID, size_xy_px=(32, 32), level=0, batch_size=8)))
    damage(tmp_path / "slide.tif", kind)
    with (
        open_slide(tmp_path / "slide.tif", Reading(backend=backend)) as reader,
        pytest.raises(
            SlideError, match=r"slide\.tif: level 0 cannot be decoded at x 128, y 64 .*--reading#unreadable_tiles mask"
        ),
    ):
        list(reader.iter_patches(GRID, size_xy_px=(32, 32), level=0, batch_size=8))
    with open_slide(tmp_path / "slide.tif", Reading(backend=backend, unreadable_tiles="mask", num_workers=2)) as reader:
        masked = np.concatenate(list(reader.iter_patches(GRID, size_xy_px=(32, 32), level=0, batch_size=8)))
        assert unreadable_tiles(reader) == BAD_TILES
        again = reader.read_patches(np.array([(128, 64), (0, 0)]), size_xy_px=(32, 32), level=0)
        low = reader.read_patches(np.array([(0, 0)]), size_xy_px=(160, 128), level=1)
    hit = (BAD[::-1] == GRID // TILE_PX).all(axis=1)
    assert hit.sum() == 4
    assert (masked[hit] == 255).all()
    np.testing.assert_array_equal(masked[~hit], whole[~hit])
    assert (again[0] == 255).all() and not (again[1] == 255).all()
    assert np.abs(low[0].astype(int) - picture[::2, ::2]).mean() < 20, "other levels are not concerned"
    printed = capfd.readouterr()
    assert "JPEG" not in printed.out + printed.err, "native messages are kept from the user"


def test_a_file_cut_off_is_refused_or_masked(tmp_path, backend):
    path = tmp_path / "slide.tif"
    write(path, levels=1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    def read(policy):
        with open_slide(path, Reading(backend=backend, unreadable_tiles=policy)) as reader:
            list(reader.iter_patches(GRID, size_xy_px=(32, 32), level=0, batch_size=8))
            return unreadable_tiles(reader)

    with pytest.raises(SlideError, match=r"slide\.tif"):
        read("fail")
    if backend == "openslide":
        with pytest.raises(SlideError, match="cannot be read"):
            read("mask")
    else:
        assert 3 < len(read("mask")) < 15


def test_a_tile_with_a_place_but_no_bytes_is_damaged_and_its_level_stays(tmp_path):
    """Left out as a level with holes, the next one would decide on the tissue: other patches, and nothing said."""
    path = tmp_path / "slide.tif"
    write(path)
    with tifffile.TiffFile(path) as file:
        counts = file.pages[1].tags["TileByteCounts"]
    with open(path, "r+b") as content:
        content.seek(counts.valueoffset)
        content.write(bytes(4 if counts.dtype == 4 else 2))
    with open_slide(path) as reader, pytest.raises(SlideError, match="level 1 cannot be decoded at x 0, y 0"):
        reader.read_patches(np.array([(0, 0)]), size_xy_px=(32, 32), level=1)
    with open_slide(path, Reading(unreadable_tiles="mask")) as reader:
        assert len(reader.level_sizes_xy_px) == 2
        reader.read_patches(np.array([(0, 0)]), size_xy_px=(32, 32), level=1)
        assert (unreadable_tiles(reader, level=1), unreadable_tiles(reader)) == ([[0, 0]], [])


def test_a_pyramid_that_lost_its_lower_levels_is_refused(tmp_path):
    """cuCIM would take it for a slide of one level."""
    pytest.importorskip("cucim")
    path = tmp_path / "slide.tif"
    write(path, levels=2)
    with tifffile.TiffFile(path) as file:
        second = file.pages[1].offset
    path.write_bytes(path.read_bytes()[: second + 4])
    with pytest.raises(SlideError, match=r"directory 1 .*cut off"):
        open_slide(path, Reading(backend="cucim"))


@pytest.mark.parametrize(("start", "length"), [(0, 300), (2, 40), (90, 400), (-60, 60)])
def test_a_damaged_jpeg_2000_tile_does_not_end_the_process(tmp_path, data_dir, start, length):
    """cuCIM calls terminate on a broken header."""
    pytest.importorskip("cucim")
    path = tmp_path / "slide.svs"
    path.write_bytes((data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs").read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    with open(path, "r+b") as file:
        file.seek(offset + (start if start >= 0 else count + start))
        file.write(np.random.default_rng(1).bytes(min(length, count - max(0, start))))
    bundle = Path(__file__).parents[2] / "bundle"
    done = command_server().run("-c", READ, str(bundle), str(path), cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "[ True False False False]"), done.stderr


def test_the_tiles_of_a_real_jpeg_2000_slide_are_whole(data_dir):
    with tifffile.TiffFile(data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs") as file:
        page = file.pages[0]
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.filehandle.seek(offset)
            content = file.filehandle.read(count)
            assert is_whole_codestream(content)
    assert not is_whole_codestream(content[:-1])
    assert not is_whole_codestream(content[:2] + b"\0" + content[3:])
    assert not is_whole_codestream(b"")


def test_an_unknown_policy_is_refused(tmp_path):
    with pytest.raises(RequestError, match="unreadable_tiles 'skip': expected one of fail, mask"):
        open_slide(tmp_path / "slide.tif", Reading(unreadable_tiles="skip"))


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_damage_is_seen_whatever_the_temporary_folder_is(tmp_path, monkeypatch, folder):
    """cuCIM's errors are known only from what it prints, which was kept in a file there."""
    pytest.importorskip("cucim")
    write(tmp_path / "slide.tif")
    damage(tmp_path / "slide.tif", "half")
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
    with open_slide(tmp_path / "slide.tif", Reading(backend="cucim", unreadable_tiles="mask")) as reader:
        list(reader.iter_patches(GRID, size_xy_px=(32, 32), level=0, batch_size=8))
        assert unreadable_tiles(reader) == BAD_TILES


def test_jpeg_beside_a_page_that_ends_cucim_is_read_strictly(tmp_path):
    """OpenSlide goes on behind what libjpeg warns of, so that it is the last to be asked."""
    path = tmp_path / "slide.tif"
    write(path)
    tifffile.imwrite(
        path,
        np.zeros((64, 64, 3), np.uint8),
        append=True,
        photometric="rgb",
        compression="deflate",
        predictor=True,
        subfiletype=1,
        metadata=None,
    )
    damage(path, "half")
    with open_slide(path, Reading(unreadable_tiles="mask")) as reader:
        assert reader.backend == "tifffile"
        list(reader.iter_patches(GRID, size_xy_px=(32, 32), level=0, batch_size=8))
        assert unreadable_tiles(reader) == BAD_TILES
