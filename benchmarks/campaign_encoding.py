"""Damaged slides of every format that is read, encoded as a user does, beside undamaged ones.

The vectors are the pixels of the patches as they were read: another pixel is another vector, and no network has to be computed.
A unit is a folder of some tens of slides; what became of each:

    right          the vectors of the undamaged slide
    clear          failed, with a message
    unnoticeable   other vectors, and nothing in the file says so: a strict reading of all directories and tiles by other libraries
                   finds no fault (benchmarks/campaign_oracle.py)
    wrong          other vectors, or empty, although something in the file said so
    hang           more than a minute for one slide
    lost           a slide without a row in the manifest, or an undamaged slide that is not done as it is alone
"""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

import h5py
import numpy as np
from campaign_cases import FAULTS, Found
from campaign_commands import TRACE, Ended, run, stage
from campaign_oracle import complaint
from campaign_slides import PATCH_PX, TILE_PX, UNREAD_WIDTH, write_slides
from campaign_vendors import TIFFS, VENDORS, complaint_of_parts, copy_slide, damage_part, write_vendor_slides
from campaign_vendors import TILE_PX as VENDOR_TILE_PX
from campaign_world import CPU, World
from PIL import Image
from tiff_bytes import Tiff
from tiff_mutations import MUTATIONS

HANG_S = 60.0
PER_UNIT = 25
KINDS = ("slides",)


@dataclass(frozen=True)
class Damaged:
    """One damaged slide.

    Attributes:
        path: its main file; the stem is its id.
        source: the undamaged one.
        what: what was done; empty where nothing was.
    """

    path: Path
    source: Path
    what: str

    @property
    def slide_id(self) -> str:
        """Name of its embedding."""
        return _id_of(self.path)


class Patches(NamedTuple):
    """What must not differ of an embedding: the corners (N, 2) of its patches in level-0 pixels, and their vectors (N, C)."""

    corners: np.ndarray
    vectors: np.ndarray


def prepare(world: World, data: Path | None) -> None:
    """Write the undamaged slides and encode them.

    Args:
        world: where to.
        data: folder of real slides; None: the pixels are generated.

    Raises:
        RuntimeError: they cannot be encoded.
    """
    folder = world.reference / "slides"
    if (folder / "made").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = write_slides(folder / "whole", data)
    with Image.open(folder / "whole" / "raw0.tif") as image:
        paths += write_vendor_slides(folder / "whole", np.asarray(image))
    ended = _encode(_listed(paths, folder / "whole"), folder / "encoded")
    if ended.code != 0:
        raise RuntimeError(f"undamaged slides: ended with {ended.code}\n{ended.said[-3000:]}")
    (folder / "made").touch()


def unit(world: World, kind: str, folder: Path, rng: Random, count: int) -> list[Found]:
    """Damage ``count`` slides, encode them beside a whole one and judge each."""
    reference = world.reference / "slides"
    with open(reference / "whole" / "slides.csv", newline="", encoding="utf-8") as file:
        sources = [reference / "whole" / row["slide"] for row in csv.DictReader(file)]
    folder.mkdir(parents=True)
    made = [_damage(folder, rng.choice(sources), rng, index) for index in range(count)]
    good = rng.choice(sources)
    made.append(
        Damaged(copy_slide(good, folder, "m_whole"), good, "")
    )  # between the damaged ones, in the order of names
    encoded = folder / "encoded"
    ended = _encode(_listed([slide.path for slide in made], folder), encoded)
    (folder / "log.txt").write_text(ended.said, encoding="utf-8")
    rows = {row["slide_id"]: row for row in _manifest(encoded / "manifest.csv")}
    found = []
    for slide in made:
        row = rows.get(slide.slide_id)
        outcome = "lost" if row is None else _judge(slide, encoded, row, reference)
        name = f"{folder.name}/{slide.path.relative_to(folder)}"
        found.append(
            Found(kind, name, f"{slide.source.name}: {slide.what or 'whole'}", outcome, row["error"] if row else "")
        )
    of_run = (
        "hang"
        if ended.code is None
        else "traceback"
        if TRACE in ended.said
        else "crash"
        if ended.code not in (0, 1)
        else ""
    )
    if of_run:
        found.append(Found(kind, folder.name, "the run", of_run, ended.said[-600:]))
    if not any(one.outcome in FAULTS for one in found):
        shutil.rmtree(encoded)
    return found


def _id_of(path: Path) -> str:
    return path.parent.name if path.suffix == ".dcm" else path.name.replace(".", "_")


def _listed(paths: Sequence[Path], folder: Path) -> Path:
    """Write the table of the slides, in the order of their ids."""
    with open(folder / "slides.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("slide", "slide_id"))
        writer.writerows((path.relative_to(folder), _id_of(path)) for path in sorted(paths, key=_id_of))
    return folder / "slides.csv"


def _damage(folder: Path, source: Path, rng: Random, index: int) -> Damaged:
    """Write one damaged slide."""
    suffix = source.name[source.name.index(".") :]
    is_tiff = suffix in TIFFS or suffix not in VENDORS
    if not is_tiff or (suffix in VENDORS and rng.random() < 0.3):
        path = copy_slide(source, folder, f"{rng.choice('az')}{index:02d}_part")
        return Damaged(path, source, damage_part(path, rng))
    mutation = rng.choice(MUTATIONS)
    tiff = Tiff(source.read_bytes())
    what = mutation(tiff, rng)
    path = folder / f"{rng.choice('az')}{index:02d}_{mutation.__name__}{suffix}"
    path.write_bytes(tiff.content)
    return Damaged(path, source, f"{mutation.__name__}: {what}")


def _encode(slides: Path, output: Path) -> Ended:
    """Encode the slides of a table as a user does; a run that hangs as a whole ends after a minute per slide."""
    words = stage(
        "encoding",
        "encode.yaml",
        "encode_raw.yaml",
        slides=slides,
        output_dir=output,
        **(CPU | {"num_workers": 2, "job#engine": "torch", "encoder_def#side_px": PATCH_PX}),
    )
    ended = run(words, slides.parent, limit_s=HANG_S * len(slides.read_text(encoding="utf-8").splitlines()))
    ended.sweep()
    return ended


def _judge(slide: Damaged, encoded: Path, row: dict[str, str], reference: Path) -> str:
    """Judge one row of the manifest."""
    is_whole = not slide.what
    if float(row["seconds"]) > HANG_S:
        return "hang"
    if row["status"] == "failed":
        return "lost" if is_whole else "clear" if row["error"] else "wrong"
    wanted, got = _patches(reference / "encoded" / f"{_id_of(slide.source)}.h5"), None
    if row["status"] == "done":
        got = _patches(encoded / row["output"])
        if all(map(np.array_equal, got, wanted)):
            return "right"
    if is_whole:
        return "lost"
    of_vendor = any(slide.source.name.endswith(suffix) for suffix in VENDORS)
    tile_px = VENDOR_TILE_PX if of_vendor else TILE_PX
    read, same_places = _explaining(wanted, got, tile_px)
    if of_vendor:
        said = complaint_of_parts(slide.source, slide.path, read=read, of_levels=not same_places)
    else:
        said = complaint(slide.path, unread_width=UNREAD_WIDTH, read=read, of_levels=not same_places)
    return "wrong" if said else "unnoticeable"


def _explaining(wanted: Patches, got: Patches | None, tile_px: int) -> tuple[set[tuple[int, int]], bool]:
    """The level-0 tiles in which the reason for other vectors lies, and whether it lies there alone.

    Where the patches are the same ones, no other level, from which the tissue is found, has anything to do with it.
    """
    if got is None or not np.array_equal(got.corners, wanted.corners):
        corners = wanted.corners if got is None else np.concatenate([wanted.corners, got.corners])
        return _tiles_under(corners, tile_px), False
    if got.vectors.shape != wanted.vectors.shape:
        return _tiles_under(wanted.corners, tile_px), True
    return _tiles_under(wanted.corners[(got.vectors != wanted.vectors).any(axis=1)], tile_px), True


def _tiles_under(corners: np.ndarray, tile_px: int) -> set[tuple[int, int]]:
    """Column and row of the level-0 tiles on which the corners of patches with these corners (N, 2) lie."""
    ends = (corners[:, None] + [[0, 0], [PATCH_PX - 1, PATCH_PX - 1]]) // tile_px
    return {tuple(corner) for corner in ends.reshape(-1, 2).tolist()}


def _manifest(path: Path) -> list[dict[str, str]]:
    """The rows of a manifest, none where there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _patches(path: Path) -> Patches:
    with h5py.File(path) as file:
        return Patches(file["coords"][()], file["features"][()])
