"""What a reader should know before taking a slide's result at its word."""

from ..slides.geometry import PATCH_PX
from .results import Inference, SlideResult

NEAR = 0.05
"""Distance to the threshold, in probability, under which a verdict is called close."""

FEW_PATCHES = 20
"""Patches of 64 um: 0.08 mm2, less than a core of a tissue microarray of 0.6 mm (0.28 mm2)."""


def remarks_on(slide: SlideResult, inference: Inference) -> list[str]:
    """List what may mislead about a slide, the gravest first, each as a sentence."""
    found = []
    if slide.seen_in:
        found.append(
            f"The model met this slide when it was made (split {slide.seen_in}): the result says nothing of new slides."
        )
    if slide.threshold is not None and abs(slide.prediction.probabilities[1] - slide.threshold) < NEAR:
        found.append(f"The probability lies within {NEAR:g} of the threshold: the verdict is close.")
    if slide.scores is None:
        found.append(
            "Inference wrote no heat map and kept no scores of this slide: heat_maps false, a network without one, or what "
            "manifest.csv says."
        )
        if (slide.folder / "scores.json").is_file():
            found.append("The heat map in the slide's folder is of an earlier run of inference: it is not shown.")
        return found
    found += _on_tissue(slide)
    found += _on_resolution(slide)
    if inference.card.network["thumbnail_stream"] and not slide.has_thumbnail:
        found.append("There was no thumbnail of this slide: the model judged it by its patches alone.")
    return found


def _on_tissue(slide: SlideResult) -> list[str]:
    tissue, found = slide.tissue, []
    if tissue["patches"] < FEW_PATCHES:
        found.append(f"Little tissue: {tissue['patches']} patches.")
    if tissue["left_out"]:
        found.append(f"{tissue['left_out']} patches lie on tiles that could not be decoded, and were not looked at.")
    if tissue["pen_coloured"]:
        found.append(f"{tissue['pen_coloured']} patches taken for tissue have the colour of pen.")
    if tissue.get("method") == "otsu":
        found.append("Tissue was found by Otsu's method, which takes pen marks for tissue.")
    return found


def _on_resolution(slide: SlideResult) -> list[str]:
    resolution = slide.scores["resolution"] if slide.scores else {}
    if resolution["mpp_x"] is None or resolution["mpp_y"] is None:
        return ["The resolution is unknown: lengths are in pixels, and no area can be given."]
    if resolution["read_px"] is not None and resolution["read_px"] < PATCH_PX:
        enlarged = PATCH_PX / resolution["read_px"]
        return [f"The scan is coarser than the patch encoder expects: patches were enlarged {enlarged:.1f} times."]
    return []
