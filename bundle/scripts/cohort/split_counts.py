"""What the splits of a table hold, beside what was asked for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..common.option_words import Split
from ..slides.table import SPLITS, SlideRow
from .patients import patients_in

TOLERANCE = 0.05
"""Difference between a share that was asked for and one that came out, from which on it is said."""


@dataclass(frozen=True)
class SplitCount:
    """What one split holds.

    Attributes:
        slides: number of slides.
        patients: number of patients.
        classes: slides per class; the empty text stands for no label.
        asked: share of the divided slides that was asked for; None where the split was kept as it is, and has no shares.
        share: the share that came out.
        class_shares: the same, per class.
    """

    slides: int
    patients: int
    classes: Mapping[str, int]
    asked: float | None
    share: float | None
    class_shares: Mapping[str, float] | None


def split_counts(
    rows: Sequence[SlideRow], split_of: Sequence[str], asked: Mapping[str, float | None]
) -> dict[Split, SplitCount]:
    """Slides, patients and slides per class of every split, with their shares of what was divided and the share asked for.

    A split that was kept as it is, and is not divided, has no shares: ``asked`` is None.
    """
    divided = Counter(row.label for row, own in zip(rows, split_of, strict=True) if own and asked[own] is not None)
    counts = {}
    for split in SPLITS:
        chosen = [row for row, own in zip(rows, split_of, strict=True) if own == split]
        classes = Counter(row.label or "" for row in chosen)
        kept = asked[split] is None
        counts[split] = SplitCount(
            slides=len(chosen),
            patients=len(set(patients_in(chosen))) if chosen else 0,
            classes=dict(sorted(classes.items())),
            asked=asked[split],
            share=None if kept else len(chosen) / divided.total(),
            class_shares=None if kept else {str(name): classes[str(name)] / count for name, count in divided.items()},
        )
    return counts


def deviations_of(counts: Mapping[Split, SplitCount]) -> list[str]:
    """Say which shares differ from what was asked for by more than `TOLERANCE`."""
    found = []
    for split, count in counts.items():
        if count.asked is None or count.share is None or count.class_shares is None:
            continue
        shares = {"all slides": count.share, **{f"class {name}": of for name, of in count.class_shares.items()}}
        found += [
            f"{split} holds {share:.0%} of {what}, asked {count.asked:.0%}"
            for what, share in shares.items()
            if abs(share - count.asked) > TOLERANCE
        ]
    return found


def in_words(split: Split, count: SplitCount) -> str:
    """The share of one split, for a line of the log."""
    share = "kept" if count.asked is None else f"{count.share:.0%}, asked {count.asked:.0%}"
    return f"{split} {count.slides} ({share})"
