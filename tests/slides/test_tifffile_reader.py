"""OME-TIFF and other tiled TIFF, written by tifffile in the ways that other tools write them."""

import numpy as np
import pytest
import tifffile
from slides.unreadable import unreadable_tiles

from scripts.common.errors import SlideError
from scripts.slides.opening import Reading, open_slide

TILE_PX = 64
STEPS = (1, 2, 4)
COMPRESSIONS = {None: 0, "deflate": 0, "lzw": 0, "zstd": 0, "webp": 0, "jpeg2000": 2, "jpeg": 8}
"""With the mean difference from what was written, at most."""

LAYOUTS = {
    "contiguous": {"axes": "YXS", "photometric": "rgb", "planarconfig": "contig"},
    "planes of a page": {"axes": "SYX", "photometric": "rgb", "planarconfig": "separate"},
    "page per colour": {"axes": "CYX", "photometric": "minisblack", "planarconfig": None},
}


def write_ome(path, pixels, *, layout="contiguous", compression="deflate", metadata=None, steps=STEPS):
    """Write a pyramid whose levels below the first are SubIFDs, as Bio-Formats and QuPath do."""
    with tifffile.TiffWriter(path, ome=True) as file:
        write_pyramid(file, pixels, layout=layout, compression=compression, metadata=metadata, steps=steps)
    return path


def write_pyramid(file, pixels, *, layout="contiguous", compression="deflate", metadata=None, steps=STEPS):
    how = LAYOUTS[layout]
    first = metadata if metadata is not None else {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    for step in steps:
        level = pixels[::step, ::step]
        file.write(
            level if how["axes"] == "YXS" else np.ascontiguousarray(np.moveaxis(level, -1, 0)),
            tile=(TILE_PX, TILE_PX),
            photometric=how["photometric"],
            planarconfig=how["planarconfig"],
            compression=compression,
            compressionargs={"level": 90} if compression == "jpeg" else None,
            subifds=len(steps) - 1 if step == 1 else 0,
            subfiletype=int(step > 1),
            metadata={"axes": how["axes"], **first} if step == 1 else None,
        )


def assert_levels(reader, pixels, tolerance=0):
    assert reader.level_sizes_xy_px == ((300, 200), (150, 100), (75, 50))
    assert reader.tile_sizes_xy_px == ((TILE_PX, TILE_PX),) * 3
    coords = np.array([(x, y) for y in range(0, 200, 48) for x in range(0, 300, 48)])
    for level, step in enumerate(STEPS):
        ground = np.pad(pixels[::step, ::step].astype(int), ((0, 48), (0, 48), (0, 0)), constant_values=255)
        expected = [ground[y // step : y // step + 40, x // step : x // step + 48] for x, y in coords]
        read = reader.read_patches(coords, size_xy_px=(48, 40), level=level)
        swept = np.concatenate(list(reader.iter_patches(coords, size_xy_px=(48, 40), level=level, batch_size=8)))
        assert np.abs(read - expected).mean() <= tolerance
        np.testing.assert_array_equal(swept, read)


@pytest.mark.parametrize("num_workers", [0, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, num_workers, tmp_path, pixels):
    path = write_ome(tmp_path / "slide.ome.tif", pixels, layout=layout)
    with open_slide(path, Reading(num_workers=num_workers, backend="tifffile")) as reader:
        assert_levels(reader, pixels)


@pytest.mark.parametrize("name", ["slide.ome.tif", "slide.TIFF"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_auto_reads_the_planes_and_the_pyramid(layout, name, tmp_path, pixels):
    """The other readers would give level 0 alone, without its resolution, and of a page per colour the first colour."""
    with open_slide(write_ome(tmp_path / name, pixels, layout=layout)) as reader:
        assert (reader.backend, reader.mpp_xy) == ("tifffile", (0.5, 0.5))
        assert_levels(reader, pixels)


@pytest.mark.parametrize(("shape", "axes"), [((5, 200, 300), "CYX"), ((4, 200, 300, 3), "ZYXS")])
def test_auto_refuses_what_is_no_plane_of_rgb(shape, axes, tmp_path):
    """OpenSlide would take the first plane for the slide."""
    path = tmp_path / "slide.ome.tif"
    photometric = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(path, np.zeros(shape, "uint8"), tile=(64, 64), photometric=photometric, metadata={"axes": axes})
    with pytest.raises(SlideError, match="expected 8-bit RGB in one plane"):
        open_slide(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_tiled", [True, False])
def test_the_slide_is_the_largest_image_wherever_it_stands(is_tiled, layout, tmp_path, pixels):
    """The macro image of the glass may come first, as may the label."""
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        macro = {
            "metadata": {"axes": "YXS", "Name": "macro", "PhysicalSizeX": 20, "PhysicalSizeY": 20},
            "photometric": "rgb",
        }
        file.write(pixels[:50, :120], tile=(TILE_PX, TILE_PX) if is_tiled else None, **macro)
        write_pyramid(file, pixels, layout=layout)
        file.write(pixels[:40, :40], **macro)
    with open_slide(path) as reader:
        assert reader.mpp_xy == (0.5, 0.5)
        assert_levels(reader, pixels)


def test_a_largest_image_that_is_no_slide_is_refused(tmp_path, pixels):
    """A smaller image beside it would be a macro or a label, and no slide."""
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels[:64, :64], tile=(TILE_PX, TILE_PX), photometric="rgb", metadata={"axes": "YXS"})
        file.write(np.zeros((200, 300), "uint16"), tile=(TILE_PX, TILE_PX), metadata={"axes": "YX"})
    with pytest.raises(SlideError, match="uint16, T 1 x Z 1 x C 1 x Y 200 x X 300, expected 8-bit RGB in one plane"):
        open_slide(path)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressions(compression, tmp_path, pixels):
    path = write_ome(tmp_path / "slide.ome.tif", pixels, compression=compression)
    with open_slide(path, Reading(backend="tifffile")) as reader:
        assert_levels(reader, pixels, tolerance=COMPRESSIONS[compression])


def test_many_threads_share_the_file(tmp_path, pixels):
    """A handle with one position for all would now and then give the pixels of another tile."""
    large = np.tile(pixels, (6, 6, 1))
    path = write_ome(tmp_path / "slide.ome.tif", large, compression=None, layout="page per colour", steps=(1,))
    coords = np.random.default_rng(0).integers(0, 1000, size=(200, 2))
    with open_slide(path, Reading(num_workers=8, backend="tifffile")) as reader:
        read = reader.read_patches(coords, size_xy_px=(96, 96), level=0)
    np.testing.assert_array_equal(read, [large[y : y + 96, x : x + 96] for x, y in coords])


def test_tiles_are_decoded_once_a_batch(tmp_path, pixels, monkeypatch):
    path = write_ome(tmp_path / "slide.ome.tif", pixels, steps=(1,))
    seen = []
    with open_slide(path, Reading(backend="tifffile")) as reader:
        tile = reader._tile
        monkeypatch.setattr(
            reader, "_tile", lambda level, row, column: seen.append((row, column)) or tile(level, row, column)
        )
        reader.read_patches(np.array([(10, 10), (20, 20), (50, 10)]), size_xy_px=(30, 30), level=0)
    assert seen == [(0, 0), (0, 1)]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.26}, (0.25, 0.26)),
        ({"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25e-3, "PhysicalSizeYUnit": "mm"}, (0.25, 0.25)),
        ({"PhysicalSizeX": 25e-6, "PhysicalSizeXUnit": "cm", "PhysicalSizeY": 1e-5, "PhysicalSizeYUnit": "in"}, (0.25, 0.254)),
        ({"PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 1, "PhysicalSizeYUnit": "pixel"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_resolution_of_the_ome_metadata(metadata, expected, tmp_path, pixels):
    with open_slide(
        write_ome(tmp_path / "slide.ome.tif", pixels, metadata=metadata), Reading(backend="tifffile")
    ) as reader:
        assert reader.mpp_xy == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("per_unit", "unit", "expected"),
    [
        (2e4, "CENTIMETER", (0.5, 0.5)),
        (50800, "INCH", (0.5, 0.5)),
        (72, "INCH", (352.7778, 352.7778)),
        (2e4, "NONE", None),
    ],
)
def test_resolution_of_the_tags(per_unit, unit, expected, tmp_path, pixels):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, pixels, tile=(TILE_PX, TILE_PX), photometric="rgb", resolution=(per_unit, per_unit), resolutionunit=unit
    )
    with open_slide(path, Reading(backend="tifffile")) as reader:
        assert reader.mpp_xy == (expected and pytest.approx(expected))


def test_a_tile_that_the_file_does_not_hold_is_white(tmp_path, pixels):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, tile=(TILE_PX, TILE_PX), photometric="rgb", compression="deflate", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = file.pages[0].tags[name]
            tag.overwrite([0 if index == 1 else value for index, value in enumerate(tag.value)])
    with open_slide(path, Reading(backend="tifffile")) as reader:
        read = reader.read_patches(np.array([(48, 0)]), size_xy_px=(32, 16), level=0)[0]
    np.testing.assert_array_equal(read[:, :16], pixels[:16, 48:64])
    assert (read[:, 16:] == 255).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "tile", "message"),
    [
        ((200, 300, 3), "uint16", "YXS", TILE_PX, r"uint16, T 1 x Z 1 x C 3 x Y 200 x X 300, expected 8-bit RGB in one plane: convert"),
        ((5, 200, 300), "uint8", "CYX", TILE_PX, r"uint8, T 1 x Z 1 x C 5 x Y 200 x X 300, expected 8-bit RGB"),
        ((4, 200, 300, 3), "uint8", "ZYXS", TILE_PX, r"Z 4 x C 3 x Y 200 x X 300, expected 8-bit RGB in one plane"),
        ((3, 200, 300), "uint8", "ZYX", TILE_PX, r"Z 3 x C 1 x Y 200 x X 300, expected 8-bit RGB"),
        ((200, 300), "uint8", "YX", TILE_PX, r"C 1 x Y 200 x X 300, expected 8-bit RGB"),
        ((200, 300, 3), "uint8", "YXS", None, "not tiled, .* convert it to a tiled TIFF with vips tiffsave"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_it_is(shape, dtype, axes, tile, message, tmp_path):
    path = tmp_path / "slide.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros(shape, dtype),
        tile=tile and (tile, tile),
        photometric="rgb" if "S" in axes else "minisblack",
        metadata={"axes": axes},
    )
    with pytest.raises(SlideError, match=message):
        open_slide(path, Reading(backend="tifffile"))


def test_planes_in_other_files_are_refused(tmp_path, pixels):
    """An OME-TIFF may name others that hold some of its planes."""
    path = write_ome(tmp_path / "slide.ome.tif", pixels, layout="page per colour", steps=(1,))
    xml = tifffile.tiffcomment(path)
    assert "<TiffData" in xml
    tags = "".join(
        f'<TiffData IFD="0" FirstC="{c}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{c}</UUID></TiffData>'
        for c, name in enumerate(("slide.ome.tif", "green.ome.tif", "blue.ome.tif"))
    )
    begin = xml.index("<TiffData")
    end = xml.index("</Pixels>")
    for name in ("green", "blue"):
        write_ome(tmp_path / f"{name}.ome.tif", pixels, layout="page per colour", steps=(1,))
    tifffile.tiffcomment(path, (xml[:begin] + tags + xml[end:]).encode())
    with pytest.raises(SlideError, match="its planes lie in several files"):
        open_slide(path, Reading(backend="tifffile"))


@pytest.mark.parametrize("compression", ["deflate", "jpeg", "jpeg2000", None])
def test_damage_is_an_error_or_masked(compression, tmp_path, pixels):
    path = tmp_path / "slide.tif"
    options = {"compressionargs": {"level": 90}} if compression == "jpeg" else {}
    tifffile.imwrite(
        path, pixels, tile=(TILE_PX, TILE_PX), photometric="rgb", compression=compression, metadata=None, **options
    )
    with tifffile.TiffFile(path) as file:
        end = file.pages[0].dataoffsets[-1] + file.pages[0].databytecounts[-1] // 2
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].offset < file.pages[0].dataoffsets[0]
    path.write_bytes(content[:end])  # the last tile is cut
    coords = np.array([(0, 0), (250, 190)])
    with (
        open_slide(path, Reading(backend="tifffile")) as reader,
        pytest.raises(SlideError, match="cannot be decoded at x 250, y 190"),
    ):
        reader.read_patches(coords, size_xy_px=(10, 10), level=0)
    with open_slide(path, Reading(backend="tifffile", unreadable_tiles="mask")) as reader:
        whole, masked = reader.read_patches(np.array([(0, 0), (290, 190)]), size_xy_px=(10, 10), level=0)
        assert unreadable_tiles(reader) == [[4, 3]]
    assert np.abs(whole.astype(int) - pixels[:10, :10]).mean() <= COMPRESSIONS[compression]
    assert np.abs(masked[:2].astype(int) - pixels[190:192, 290:]).mean() <= 2 * COMPRESSIONS[compression], (
        "another tile"
    )
    assert (masked[2:] == 255).all()


def test_malformed_tags_are_slide_errors(tmp_path, pixels):
    """Any byte of the directory may be wrong: the file is refused or its tiles are unreadable, nothing else is raised."""
    path = write_ome(tmp_path / "slide.ome.tif", pixels, steps=(1,))
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        begin, end = page.offset, page.offset + 2 + 12 * len(page.tags)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        broken = bytearray(content)
        for place in rng.integers(begin, end, 3):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            with open_slide(path, Reading(backend="tifffile")) as reader:
                reader.read_patches(np.array([(0, 0)]), size_xy_px=(8, 8), level=0)
        except SlideError:
            refused += 1
    assert refused > 20
