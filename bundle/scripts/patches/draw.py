"""The patches of one slide: drawn at random, at least a given share of them nucleus-rich."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import ceil, floor

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.option_table import checked
from ..common.option_words import ReadLevel, Split
from ..slides.geometry import PATCH_PX, PATCH_UM, plan_reading, resize_patches
from ..slides.opening import DEFAULT_READING, Reading, open_slide
from ..slides.spoiled import recorded
from ..slides.table import SlideRow
from ..tissue.mask import find_tissue, require_judged
from .nuclei import is_nucleus_rich

BATCH_PATCHES = 64
"""Patches read at once: 12.6 MB at 256 px, and what cuCIM decodes ahead. The draw does not depend on it."""


@dataclass(frozen=True)
class DrawRules:
    """Which patches are drawn, of which slides (section V-A.a).

    Attributes:
        slides_per_class: Slides drawn of each label (all of them where there are fewer); those without a label count as
            one class.
        splits: Slides of which splits are drawn from; without effect where no slide names its split.
        patches_per_slide: Patches drawn of each slide.
        rich_share: Least share of a slide's patches that is nucleus-rich, from 0 to 1.
        patch_um: Side of a patch on the slide.
        drop_pen: Draw none with the colour of pen.
        read_level: ``"highest"`` (level 0, as in the paper), ``"auto"`` or a level's number, see
            :func:`..slides.geometry.plan_reading`.
        seed: Decides which slides are drawn, and which patches of a slide whatever the others are.

    Raises:
        RequestError: A value lies outside its range.
    """

    slides_per_class: int = 20
    splits: Sequence[Split] = ("train",)
    patches_per_slide: int = 600
    rich_share: float = 0.9
    patch_um: float = PATCH_UM
    drop_pen: bool = True
    read_level: ReadLevel = "highest"
    seed: int = 0

    def __post_init__(self) -> None:
        for rule in fields(self):
            read = checked(rule.name, getattr(self, rule.name))
            object.__setattr__(self, rule.name, tuple(read) if isinstance(read, list) else read)


@dataclass(frozen=True)
class SlideSample:
    """What was drawn from one slide, in the order of the draw.

    Attributes:
        patches: RGB, uint8 (n, 112, 112, 3).
        coords_xy_px: Top-left corners in level-0 pixels, int64 (n, 2).
        rich: Which are nucleus-rich, (n,).
        candidates: Patches of the slide's tissue mask, without those that were found to be unreadable.
        reason: Why fewer were drawn than asked for; an empty string where they were not.
    """

    patches: NDArray[np.uint8]
    coords_xy_px: NDArray[np.int64]
    rich: NDArray[np.bool_]
    candidates: int
    reason: str


def sample_slide(
    row: SlideRow,
    rules: DrawRules,
    reading: Reading = DEFAULT_READING,
) -> SlideSample:
    """Draw patches from the tissue of one slide (section V-A.a).

    The patches of the tissue mask are visited once, in a random order that follows from the seed and the slide's id
    alone. A nucleus-rich patch is taken; any other is taken while the others do not exceed their share of the number to draw.
    Where the tissue is exhausted before, the last of the others are given back until the share holds in what was
    drawn. So a slide without a nucleus-rich patch gives none at all.

    Args:
        row: the slide.
        rules: what is drawn.
        reading: how the slide is read. With ``unreadable_tiles`` "mask" no patch is drawn from a tile that cannot be decoded,
            or that the file lacks. The draw depends on nothing else of it.

    Raises:
        SlideError: The slide cannot be opened, decoded, or read at that resolution, or lacks tiles under its tissue. Or no tissue
            is found beside tiles that cannot be decoded.
    """
    patches, patch_um = rules.patches_per_slide, rules.patch_um
    share = Fraction(rules.rich_share).limit_denominator(1_000_000)  # what was written: 0.9 exactly
    most_others = patches - ceil(patches * share)
    with open_slide(row.path, reading) as reader:
        plan = plan_reading(reader, patch_um=patch_um, read_level=rules.read_level, mpp=row.mpp)
        tissue = find_tissue(reader, plan.grid, patch_um=patch_um, drop_pen=rules.drop_pen)
        require_judged(tissue, row.path)
        grid_yx = np.argwhere(tissue.mask).astype(np.int32)
        candidates_xy_px = plan.grid.coords_xy_px(seeded_generator(rules.seed, row.slide_id).permutation(grid_yx))
        sample, left_out, size = _Draw(), 0, (plan.read_px, plan.read_px)
        for start in range(0, len(candidates_xy_px), BATCH_PATCHES):
            coords_xy_px = candidates_xy_px[start : start + BATCH_PATCHES]
            pixels = reader.read_patches(coords_xy_px, size_xy_px=size, level=plan.level)
            readable = ~reader.unreadable(coords_xy_px, size_xy_px=size, level=plan.level)
            readable &= recorded(reader, coords_xy_px, pixels, plan.level)
            left_out += int((~readable).sum())
            sample.take(pixels[readable], coords_xy_px[readable], patches=patches, most_others=most_others)
            if len(sample.rich) == patches:
                break
    rich_found, candidates = sum(sample.rich), len(grid_yx) - left_out
    left_out += tissue.unjudged
    if len(sample.rich) < patches and share > 0:
        sample.give_back(most_others=floor(rich_found * (1 - share) / share))
    reason = ""
    if len(sample.rich) < patches:
        reason = tissue.reason or (
            f"{len(sample.rich)} of {patches} patches drawn: {candidates} patches hold tissue, {rich_found} of them are "
            "nucleus-rich"
        )
        if left_out:
            reason += f"; {left_out} other patches lie on unreadable tiles and were left out"
        if len(sample.rich) < candidates:
            reason += f", expected at least {rules.rich_share:g} of what is drawn: a lower rich_share draws more"
    return sample.finish(candidates=candidates, reason=reason)


def seeded_generator(seed: int, name: str) -> np.random.Generator:
    """Make a generator that follows from a seed and a name, the same in every process and on every machine."""
    name_hash = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(np.random.SeedSequence([seed, name_hash]))


class _Draw:
    """The patches taken so far."""

    def __init__(self) -> None:
        self.images: list[NDArray[np.uint8]] = []
        self.coords_xy_px: list[NDArray[np.int64]] = []
        self.rich: list[bool] = []

    def take(
        self, pixels: NDArray[np.uint8], coords_xy_px: NDArray[np.int64], *, patches: int, most_others: int
    ) -> None:
        """Take from a batch (N, h, w, 3) in its order, up to ``patches`` in all and ``most_others`` not nucleus-rich."""
        others = len(self.rich) - sum(self.rich)
        taken = []
        for index, rich in enumerate(is_nucleus_rich(pixels).tolist()):
            if len(self.rich) == patches:
                break
            if rich or others < most_others:
                others += not rich
                self.rich.append(rich)
                taken.append(index)
        if taken:
            resized = resize_patches(torch.from_numpy(pixels[taken])).round().clamp(0, 255).to(torch.uint8)
            self.images += list(resized.permute(0, 2, 3, 1).contiguous().numpy())
            self.coords_xy_px += list(coords_xy_px[taken])

    def give_back(self, *, most_others: int) -> None:
        """Keep all nucleus-rich patches and the first ``most_others`` of the others."""
        others_so_far = np.cumsum(np.logical_not(self.rich))
        kept = np.flatnonzero(np.array(self.rich, dtype=bool) | (others_so_far <= most_others))
        self.images = [self.images[index] for index in kept]
        self.coords_xy_px = [self.coords_xy_px[index] for index in kept]
        self.rich = [self.rich[index] for index in kept]

    def finish(self, *, candidates: int, reason: str) -> SlideSample:
        """Stack what was taken."""
        return SlideSample(
            patches=np.array(self.images, dtype=np.uint8).reshape(-1, PATCH_PX, PATCH_PX, 3),
            coords_xy_px=np.array(self.coords_xy_px, dtype=np.int64).reshape(-1, 2),
            rich=np.array(self.rich, dtype=bool),
            candidates=candidates,
            reason=reason,
        )
