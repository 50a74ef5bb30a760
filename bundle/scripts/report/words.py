"""Numbers and facts in the words of the report."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from ..common.option_words import TissueMethod
from ..dsnet.heat_map import GRAD_CAM, LESION_MAP, PATCH_MAP, MapKind
from ..evaluation.calibration import ReliabilityBin
from ..evaluation.interval import Estimate
from ..training.model_card import THRESHOLD_FROM
from .performance import Performance
from .results import Inference, SlideResult

_CODE = re.compile(r"`([^`]+)`")
METHODS: dict[TissueMethod, str] = {"rle": "run lengths (rle)", "otsu": "Otsu's method on the mean intensity"}


def class_label(name: str) -> str:
    """Return a class's name as it is shown: a bare number would be taken for an amount."""
    return f"class\u00a0{name}" if name.isdecimal() else name


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits behind the point, or "undefined"."""
    return "undefined" if value is None else f"{value:.{digits}f}"


def interval(ends: Sequence[float | None] | None, digits: int = 3) -> str:
    """Return both ends of an interval in words; an empty string where there is none."""
    if ends is None or ends[0] is None or ends[1] is None:
        return ""
    return f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def with_interval(found: Estimate) -> str:
    """Return a figure with its interval, or with the reason why it has none."""
    return found.in_words()


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.0f}\u00a0%"


def count(many: int, one: str, more: str | None = None) -> str:
    """Return a number of things: 1 slide, 2 slides."""
    return f"{many:,} {one if many == 1 else more or one + 's'}"


def code(text: str) -> Markup:
    """Markdown's code words, which stand between backticks, as HTML's; all else of ``text`` stays plain text.

    >>> print(code("less than `a<b>` & more"))
    less than <code>a&lt;b&gt;</code> &amp; more
    """
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def bin_of(slide: SlideResult, performance: Performance | None) -> ReliabilityBin | None:
    """Return the bin of the reliability diagram that a slide's probability falls into."""
    if performance is None:
        return None
    probabilities = slide.prediction.probabilities
    confidence = probabilities[1] if len(probabilities) == 2 else max(probabilities)
    first = performance.bins[0]
    return next((one for one in performance.bins if one.low < confidence <= one.high), first)


def threshold_source(inference: Inference) -> str:
    """Say where the threshold comes from."""
    if inference.run["threshold"] != inference.card.threshold:
        return f"given on the command line instead of the model card's {number(inference.card.threshold)}"
    return THRESHOLD_FROM[inference.card.threshold_from]


def heat_map(inference: Inference) -> MapKind:
    """What the maps of this run are, as its slides say it; Grad-CAM where there is none."""
    titles = (slide.scores["heat_map"] for slide in inference.slides if slide.scores)
    title = next(titles, GRAD_CAM.title)
    of_patches = (kind for kind in (LESION_MAP, PATCH_MAP) if kind.title == title)
    return next(of_patches, MapKind(title, is_probability=False))


def quality(slide: SlideResult) -> list[tuple[str, str]]:
    """Describe what was looked at on a slide, as pairs (term, text); empty where inference kept no scores."""
    if slide.scores is None:
        return []
    tissue, resolution, grid = (slide.scores[name] for name in ("tissue", "resolution", "grid"))
    rows, columns = grid["shape_yx"]
    size = "" if resolution["patch_um"] is None else f" of {resolution['patch_um']:g} µm"
    area = "" if tissue["area_mm2"] is None else f"{tissue['area_mm2']:.2f} mm² in "
    box = "" if tissue["box_mm2"] is None else f", {tissue['box_mm2']:.2f} mm²"
    found = [
        ("Tissue", f"{area}{count(tissue['patches'], 'patch', 'patches')}{size}"),
        (
            "Box looked at",
            f"{columns} × {rows} patches{box}; from x {grid['origin_xy_px'][0]}, y {grid['origin_xy_px'][1]} px of level 0",
        ),
        ("Resolution", _resolution(resolution)),
    ]
    if "method" in tissue:
        found += [
            ("Tissue found by", f"{METHODS[tissue['method']]}, score of {tissue['threshold']:.3f} or more"),
            ("Left out as glass", count(tissue["glass"], "patch", "patches")),
            ("Left out as ink, debris or blood", count(tissue["ink_or_debris"], "patch", "patches")),
            ("Left out as pen", count(tissue.get("pen", 0), "patch", "patches")),
            ("Left out as specks", count(tissue["specks"], "patch", "patches")),
        ]
    unreadable, pen = tissue["left_out"], tissue["pen_coloured"]
    found.append(("On unreadable tiles", "not known" if unreadable is None else count(unreadable, "patch", "patches")))
    found.append(
        (
            "Pen colour on tissue",
            "not known: no thumbnail"
            if pen is None
            else f"{count(pen, 'patch', 'patches')} (purple and pink ink are not found this way)",
        )
    )
    if slide.scores["backend"]:
        found.append(("Read by", f"{slide.scores['backend']}; encoded by {slide.scores['engine']}"))
    return found


def _resolution(resolution: Mapping[str, Any]) -> str:
    if resolution["mpp_x"] is None:
        return "unknown"
    text = f"{resolution['mpp_x']:.4g} × {resolution['mpp_y']:.4g} µm per pixel"
    if resolution["slide_size_xy_px"]:
        text += "; {:,} × {:,} px".format(*resolution["slide_size_xy_px"])
    if resolution["read_level"] is not None:
        text += f"; patches read from level {resolution['read_level']}, {resolution['read_px']} px per side"
    return text


def model_card(inference: Inference) -> list[tuple[str, str]]:
    """Describe the model, as pairs (term, text)."""
    card, unknown = inference.card, "not stated"
    training, validation = card.training, card.validation
    network = card.network
    off = [name for name, value in network.items() if value is False]
    found = [
        (
            "Task",
            f"one of {len(inference.class_names)} classes per slide: {', '.join(map(class_label, inference.class_names))}",
        ),
        ("Intended use", card.intended_use or "research only; not a medical device and not for diagnosis"),
        (
            "Network",
            f"{card.architecture}, {network['embedding_channels']} channels, {network['thumbnail_levels']} thumbnail levels",
        ),
        ("Switched off", ", ".join(off) or "nothing"),
        ("Trained on", f"{training['slides']} slides with one label each" if training else unknown),
        ("Epoch", _epoch(training) if training else unknown),
        ("Validated on", _validated(validation) if validation else unknown),
        (
            "Calibration",
            f"temperature {card.temperature:.3f}" + ("" if card.temperature_from else ", not fitted"),
        ),
        ("Patch encoder", str(card.encoder)),
        ("Weights (sha256)", card.weights_sha256 or unknown),
        ("Made with", ", ".join(f"{name} {version}" for name, version in card.versions.items()) or unknown),
        ("Applied with", ", ".join(f"{name} {version}" for name, version in inference.run["versions"].items())),
    ]
    if card.threshold is not None:
        found.insert(7, ("Threshold", f"{card.threshold:.3f}, {THRESHOLD_FROM[card.threshold_from]}"))
    return found


def _epoch(training: Mapping[str, Any]) -> str:
    """Which epoch was chosen of how many; a card of before knows only how many there were to be."""
    if "epoch" not in training:
        return f"{training['selection']}; at most {training['max_epochs']} epochs"
    return f"{training['epoch']} of {training['epochs']}: {training['selection']}"


def _validated(validation: Mapping[str, Any]) -> str:
    auc = Estimate.from_json(validation["auc"], used=0, reason=validation.get("no_interval"))
    return f"{validation['slides']} slides: AUC {auc.in_words()}, chosen for"


def limits(kind: MapKind) -> tuple[str, ...]:
    """Say in sentences what the pages do not show, of a run whose maps are of this kind."""
    return (
        "The figures hold for slides like those of the test set: another organ, stain, scanner or laboratory is not covered.",
        "A probability is right at the share of each class that the validation set had; where a class is rarer or more frequent, "
        "it is off.",
        _OF_PROBABILITIES if kind.is_probability else _OF_SHARES,
        "What was left out as glass, ink, debris or speck was not looked at; flat or very pale tissue may be among it.",
        "The stream score and the channel scores say how the network weighed its inputs, not how sure it is.",
    )


_OF_PROBABILITIES = (
    "The heat map shows the probability that the network gives each patch, on one scale for all slides. It is not "
    "calibrated. It is no outline of a lesion, and a pale place proves nothing."
)
_OF_SHARES = (
    "The heat map of a classifier shows where on this slide the evidence for a class came from, relative to the slide's own "
    "maximum, so that some place may be bright on any slide. It is no outline of a lesion, and a pale place proves nothing."
)
