"""How well one map shows lesions: the pointing game, detections for FROC, cell AUC, Dice."""

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from monai.apps.pathology.utils import PathologyProbNMS
from monai.metrics import compute_dice, compute_fp_tp_probs
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import MapValues
from .mapped_slide import MappedSlide, numbered


@dataclass(frozen=True)
class Calls:
    """What of a map is called lesion.

    Attributes:
        threshold: a cell with at least this score is, and a detection with it counts for the lesion hit rate.
        lowest: a detection of the FROC curve has more than this score.
        nms_cells: side of the box that a detection clears of others, in cells.

    Raises:
        RequestError: one of them lies outside its range, or the threshold under the lowest score.
    """

    threshold: float = 0.5
    lowest: float = 0.05
    nms_cells: int = 5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            checked(name, value)
        if self.threshold < self.lowest:
            raise RequestError(
                f"threshold {self.threshold:g} is under lowest {self.lowest:g}, and detections between the two are not sought; "
                "expected lowest at most as high: correct --threshold or --lowest"
            )


@dataclass(frozen=True)
class SlideScores:
    """The scores of one slide.

    Attributes:
        slide: what is scored.
        score: (H, W), comparable between slides: a map of kind ``probability`` as it is; a class activation map, which is relative
            to its own slide's maximum, times P(class with lesions).
        calls: what of it is called lesion.
    """

    slide: MappedSlide
    score: NDArray[np.float32]
    calls: Calls

    @cached_property
    def hit(self) -> float:
        """Whether the hottest cell is lesion (Zhang et al. 2018, the pointing game), among equals the share; 0 for no heat."""
        heat = self.slide.heat
        return float(self.slide.lesion[heat == heat.max()].mean()) if heat.max() > 0 else 0.0

    @cached_property
    def chance(self) -> float:
        """The hit of a random cell: the lesion's share of the observed cells."""
        return float(self.slide.lesion.sum() / self.slide.observed.sum())

    @cached_property
    def lesions(self) -> NDArray[np.int64]:
        """Observed lesions, numbered from 1 (H, W); see :func:`.mapped_slide.numbered`."""
        return numbered(self.slide.lesion)

    @cached_property
    def detections(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores of the false detections, (n,), and of the best detection in each lesion, (lesions,), 0 where there is none.

        Lesions that were not observed come last: a lesion that encoding lost is one that the map misses.

        A detection is the hottest cell left; its box is cleared, and the next one sought (MONAI's ``PathologyProbNMS``). One that
        lies in a lesion is true (``compute_fp_tp_probs``, the code of the Camelyon16 challenge).
        """
        suppress = PathologyProbNMS(spatial_dims=2, prob_threshold=self.calls.lowest, box_size=self.calls.nms_cells)
        found = np.array(suppress(self.score.copy()), dtype=np.float32).reshape(-1, 3)
        false, true, _ = compute_fp_tp_probs(found[:, 0], found[:, 1], found[:, 2], self.lesions)
        return np.asarray(false), np.pad(np.asarray(true, dtype=np.float32), (0, self.slide.unobserved_lesions))

    @property
    def lesions_hit(self) -> int:
        """Number of lesions with a detection of at least the threshold; 0 is the score of none."""
        best = self.detections[1]
        return int(((best >= self.calls.threshold) & (best > 0)).sum())

    @cached_property
    def cell_auc(self) -> float:
        """AUC of lesion against other cells within the slide; NaN where it has not both."""
        lesion = self.slide.lesion[self.slide.observed]
        if lesion.all() or not lesion.any():
            return float("nan")
        return float(roc_auc_score(lesion, self.score[self.slide.observed]))

    @cached_property
    def dice(self) -> float:
        """Dice of the cells called lesion, over the observed cells; NaN where there is no lesion."""
        called, lesion = (
            torch.from_numpy(cells[self.slide.observed])[None, None].float()
            for cells in (self.score >= self.calls.threshold, self.slide.lesion)
        )
        return float(compute_dice(called, lesion, ignore_empty=True))

    def overlap(self, threshold: float) -> tuple[int, int]:
        """Numerator and denominator of Dice: twice the cells called rightly; cells called plus lesion cells."""
        called = (self.score >= threshold) & self.slide.observed
        return 2 * int((called & self.slide.lesion).sum()), int(called.sum() + self.slide.lesion.sum())


def score_slide(slide: MappedSlide, *, kind: MapValues, calls: Calls) -> SlideScores:
    """Score one slide whose map is of ``kind``."""
    weight = slide.probability if kind == "cam" else 1.0
    score = (slide.heat * weight * slide.observed).astype(np.float32)
    return SlideScores(slide, score, calls)
