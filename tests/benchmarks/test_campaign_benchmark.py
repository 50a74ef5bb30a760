"""The campaign: its slides are whole for the strict reading that judges them, damage is seen, and what is documented is right."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from campaign_encoding import Patches, _explaining
from campaign_files import says_the_same
from campaign_oracle import complaint
from campaign_slides import FACTORS, SIDE, UNREAD_WIDTH, WRITERS
from tiff_bytes import COUNTS, OFFSETS, TILE_WIDTH, WIDTH, Tiff
from tiff_mutations import MUTATIONS, Mutation

from scripts.slides.opening import open_slide


@pytest.fixture(scope="module", params=WRITERS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    suffix, write = WRITERS[request.param]
    noise = np.random.default_rng(0).integers(120, 240, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    pixels = noise.repeat(8, axis=0).repeat(8, axis=1)
    path = tmp_path_factory.mktemp("slides") / f"{request.param}{suffix}"
    write(path, [np.ascontiguousarray(pixels[::factor, ::factor]) for factor in FACTORS])
    return path


def changed(whole: Path, path: Path, tag: int, value: int) -> Path:
    tiff = Tiff(whole.read_bytes())
    tiff.set(tiff.entries(tag)[0], value)
    path.write_bytes(tiff.content)
    return path


def test_nothing_is_said_of_a_whole_slide(whole: Path) -> None:
    assert complaint(whole, unread_width=0) is None
    with open_slide(whole) as reader:
        assert len(reader.level_sizes_xy_px) == len(FACTORS) and reader.mpp_xy is not None


@pytest.mark.parametrize(("tag", "value"), [(TILE_WIDTH, 512), (WIDTH, 4096), (COUNTS, 5), (OFFSETS, 2**31)])
def test_what_a_file_says_of_itself_is_seen(whole: Path, tmp_path: Path, tag: int, value: int) -> None:
    assert complaint(changed(whole, tmp_path / "slide.tif", tag, value), unread_width=0)


def test_a_level_that_nobody_reads_explains_nothing(whole: Path, tmp_path: Path) -> None:
    tiff = Tiff(whole.read_bytes())
    middle = next(d for d in tiff.directories for e in d.entries if e.tag == WIDTH and tiff.values(e) == [UNREAD_WIDTH])
    tiff.set(next(entry for entry in middle.entries if entry.tag == COUNTS), 5)
    (tmp_path / "slide.tif").write_bytes(tiff.content)
    assert complaint(tmp_path / "slide.tif", unread_width=0)
    assert complaint(tmp_path / "slide.tif", unread_width=UNREAD_WIDTH) is None
    assert complaint(tmp_path / "slide.tif", unread_width=0, of_levels=False) is None


def test_other_levels_explain_other_places_alone() -> None:
    """Two damages: one in a tile of level 0, which changes a vector, and one in a level from which no patch is read."""
    corners, vectors = np.array([(0, 0), (128, 0)]), np.zeros((2, 3))
    changed_vector = Patches(corners, np.array([(0.0, 0, 0), (0, 1, 0)]))
    moved = Patches(np.array([(0, 0), (128, 128)]), vectors)
    assert _explaining(Patches(corners, vectors), changed_vector, 256) == ({(0, 0)}, True)
    assert _explaining(Patches(corners, vectors), moved, 128) == ({(0, 0), (1, 0), (1, 1)}, False)
    assert _explaining(Patches(corners, vectors), None, 128) == ({(0, 0), (1, 0)}, False)


def test_a_tile_that_nobody_reads_explains_nothing(whole: Path, tmp_path: Path) -> None:
    path = changed(whole, tmp_path / "slide.tif", COUNTS, 5)
    assert complaint(path, unread_width=0, read={(0, 0)})
    assert complaint(path, unread_width=0, read={(1, 0), (0, 1)}) is None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_same_seed_does_the_same_damage(whole: Path, mutation: Mutation) -> None:
    def damaged(seed: int) -> tuple[str, bytes]:
        tiff = Tiff(whole.read_bytes())
        return mutation(tiff, Random(seed)), bytes(tiff.content)

    made = [damaged(seed) for seed in range(6)]
    assert made == [damaged(seed) for seed in range(6)]
    assert all(what for what, _ in made) and any(content != whole.read_bytes() for _, content in made)


@pytest.mark.parametrize(("label", "expected"), [("", True), ("NA", True), ("0", False)])
def test_a_slide_without_a_label_is_left_out_of_an_evaluation(tmp_path: Path, label: str, expected: bool) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"slide,label,split\na.tif,1,test\nb.tif,{label},test\nc.tif,0,train\n")
    (tmp_path / "predictions.csv").write_text("slide_id,label\na,1\n")
    assert says_the_same(table, tmp_path) is expected
