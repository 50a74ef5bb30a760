"""What is scored: heat maps and predictions as inference left them, beside the lesions that masks show."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..common.errors import RequestError, SlideError, first_of
from ..common.journal import require_as_written
from ..common.json_files import NONE, read_json, require_fields
from ..common.option_table import checked
from ..common.option_words import MapValues, Split
from ..dsnet.heat_map import LESION_MAP, PATCH_MAP
from ..evaluation.metrics import predicted_classes
from ..evaluation.predictions import Prediction, read_predictions
from ..inference.record import SCORES_FORMAT
from ..slides.lesion_mask import all_lesion_cells, find_masks
from ..slides.slide_ids import known_ids
from ..slides.table import SlideRow, read_slides
from .mapped_slide import MappedSlide, read_maps

_LOGGER = logging.getLogger(__name__)
EXPECTED = "what inference writes: run it anew"


def read_mapped_slides(
    predictions_dir: str | Path,
    dataset_dir: str | Path,
    *,
    kind: MapValues | None,
    slides: str | Path | None = None,
    masks: str | Path | None = None,
    split: Split | None = None,
    mask_px: int | None = None,
    lesion_from: int = 1,
) -> tuple[list[MappedSlide], MapValues]:
    """Read the slides that can be scored: of class 0 all (they have no lesion), of class 1 those with a mask.

    Args:
        predictions_dir: output folder of inference.
        dataset_dir: embeddings that it read or wrote, which say where the cells lie.
        kind: what the maps are taken for; None: what ``scores.json`` beside them says, without it "cam".
        slides: table of the slides; None takes ``slides.csv`` of ``dataset_dir``.
        masks: folder of ``<slide_id>.png`` or ``.tif``; None takes the table's column ``mask``.
        split: the slides of this split alone; None: all.
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.

    Returns:
        the slides, and what their maps are.

    Raises:
        RequestError: tables, folders or all heat maps are missing, or predictions have changed since they were written. There are
            not two classes, no slide is in the table, slides have salted ids, maps are of class 0 or of another kind, or nothing
            can be scored.
        SlideError: embeddings, heat maps or masks cannot be read, or belong to another grid; the message names all of them.
    """
    results, dataset = Path(predictions_dir), Path(dataset_dir)
    source = dataset / "slides.csv" if slides is None else Path(slides)
    if split is not None:
        checked("split", split)
    table = read_predictions(results / "predictions.csv", other_labels=True)
    require_as_written(results, ["predictions.csv", "inference.json"], expected=EXPECTED)
    if table.thresholds is None:
        raise RequestError(
            f"{results / 'predictions.csv'}: {len(table.class_names)} classes, expected 2: without and with lesion"
        )
    row_of = _rows_of([one.slide_id for one in table.predictions], results, dataset, source, split)
    mask_of = find_masks(list(row_of.values()), source, masks)
    of_table = [pair for pair in zip(table.predictions, table.thresholds, strict=True) if pair[0].slide_id in row_of]
    chosen = _scorable(of_table, mask_of)
    kind = _kind_of([results / one.slide_id for one, _ in chosen], kind, table.class_names[1])

    cells_of = partial(all_lesion_cells, mask_px=mask_px, lesion_from=lesion_from)
    origins = _origins(results)
    found: list[MappedSlide] = []
    faults: list[str] = []
    for prediction, threshold in chosen:
        row, mask = row_of[prediction.slide_id], mask_of.get(prediction.slide_id)
        origin = origins.get(prediction.slide_id)
        try:
            if origin and not origin["mapped"]:
                raise SlideError(
                    f"{results / prediction.slide_id}: no heat map of the run that wrote {results / 'predictions.csv'}, expected "
                    "one: run inference anew with --heat_maps true"
                )
            heat, observed, lesion, unobserved = read_maps(
                dataset / f"{row.slide_id}.h5",
                results / row.slide_id,
                slide=row.path,
                mask=mask if prediction.label == 1 else None,
                cells_of=cells_of,
            )
        except SlideError as error:
            faults.append(str(error))
            continue
        found.append(
            MappedSlide(
                row.slide_id,
                row.patient,
                positive=prediction.label == 1,
                called=bool(predicted_classes([prediction.probabilities], threshold)[0]),
                probability=prediction.probabilities[1],
                heat=heat,
                observed=observed,
                lesion=lesion,
                unobserved_lesions=unobserved,
                seen=origin["seen_in"] is not None if origin else None,
            )
        )
    if faults:
        raise SlideError(
            f"{len(faults)} slides cannot be scored: {' | '.join(faults)}; expected all: correct them, or take them out of the "
            "table"
        )
    if not any(slide.has_lesion for slide in found):
        raise RequestError(
            f"{results / 'predictions.csv'}: none of {len(found)} slides has a lesion cell; expected positive slides of {source} "
            f"{f'in split {split!r} ' if split else ''}with masks: name their folder with --masks, or fill the column mask"
        )
    _tell(found)
    return found, kind


def _tell(found: Sequence[MappedSlide]) -> None:
    """Warn of what makes the figures less than they seem."""
    positive = [slide for slide in found if slide.positive]
    if empty := sum(not slide.has_lesion for slide in positive):
        _LOGGER.warning(
            "%d of %d positive slides have a mask without a lesion cell, so no map of theirs can hit; expected one that fills half "
            "of some cell: look at these masks' channel and values (--lesion_from), and scale (--mask_px)",
            empty,
            len(positive),
        )
    if lost := sum(slide.unobserved_lesions for slide in found):
        _LOGGER.warning(
            "%d lesions of %d slides have no observed patch and count as missed; expected tissue wherever a mask has a lesion: "
            "look at observed.png of the slides with unobserved_lesions in localisation.csv, and encode them with another "
            "--settings#tissue_method, or with --settings#drop_pen false",
            lost,
            sum(slide.unobserved_lesions > 0 for slide in found),
        )
    if seen := sum(bool(slide.seen) for slide in found):
        _LOGGER.warning(
            "%d of %d slides were in train or val when the model was trained, so the figures are no estimate for new slides; "
            "expected others: choose test slides with --split test, or another table with --slides",
            seen,
            len(found),
        )


def _rows_of(
    slide_ids: Sequence[str], results: Path, dataset: Path, source: Path, split: Split | None
) -> dict[str, SlideRow]:
    """The rows of predicted slides, by slide id; a warning counts those that the table does not list.

    Raises:
        RequestError: there is no table, the slides have salted ids, or none of them is in the table and the split.
    """
    run = results / "inference.json"
    if run.is_file() and read_json(run, expected=EXPECTED, fields={"settings": dict})["settings"].get("anonymise"):
        raise RequestError(
            f"{run}: slides have salted ids (--anonymise true), which neither table nor embeddings know; expected their own "
            "names: run inference without --anonymise, with another --output_dir"
        )
    if not source.exists():
        raise RequestError(
            f"{source}: no such file, expected the table of the slides, which encoding leaves beside embeddings and inference does "
            "not: name it with --slides"
        )
    listed = {row.slide_id: row for row in read_slides(source, known=known_ids(dataset))}
    found = {name: listed[name] for name in slide_ids if name in listed and split in (None, listed[name].split)}
    if not found:
        raise RequestError(
            f"{results / 'predictions.csv'}: none of its {len(slide_ids)} slides ({first_of(slide_ids, ', ')}) is in {source}"
            f"{f' in split {split!r}' if split else ''}; expected the table that they were predicted from: name it with --slides"
            f"{', or their split with --split' if split else ''}"
        )
    if unlisted := len(set(slide_ids) - listed.keys()):
        _LOGGER.warning(
            "left out: %d of %d predicted slides that are not in %s; expected the table that they were predicted from: name it "
            "with --slides",
            unlisted,
            len(slide_ids),
            source,
        )
    return found


def _origins(results: Path) -> dict[str, dict[str, Any]]:
    """What inference recorded of each slide, by slide id: ``seen_in``, the split in which the model met it, and ``mapped``.

    Returns:
        the record; empty where inference left none.

    Raises:
        RequestError: the record is not what inference writes.
    """
    run = results / "inference.json"
    if not run.is_file():
        return {}
    slides: dict[str, dict[str, Any]] = read_json(run, expected=EXPECTED, fields={"slides": dict})["slides"]
    for slide_id, origin in slides.items():
        require_fields(f"{run}, slide {slide_id}", origin, {"seen_in": (str, NONE), "mapped": bool}, expected=EXPECTED)
    return slides


def _scorable(
    predicted: Sequence[tuple[Prediction, float]], mask_of: Mapping[str, Path]
) -> list[tuple[Prediction, float]]:
    """Keep predictions, with their thresholds, of class 0, and of class 1 with a mask; a warning counts the others."""
    labelled = [pair for pair in predicted if pair[0].label is not None]
    chosen = [pair for pair in labelled if pair[0].label == 0 or pair[0].slide_id in mask_of]
    if len(chosen) < len(predicted):
        _LOGGER.warning(
            "left out: %d slides without a label, %d positive ones without a mask",
            len(predicted) - len(labelled),
            len(labelled) - len(chosen),
        )
    return chosen


def _kind_of(folders: Sequence[Path], asked: MapValues | None, class_name: str) -> MapValues:
    """Return what all maps are, as asked and as ``scores.json`` says; of a map without it, of other origin, nothing is known.

    Raises:
        RequestError: no slide has a map, or one is of another class or kind.
    """
    if folders and not any((folder / "cam.nii.gz").is_file() for folder in folders):
        raise RequestError(
            f"{folders[0].parent}: none of {len(folders)} slides has a heat map, expected <slide_id>/cam.nii.gz: run inference "
            "with --heat_maps true, and a network that has one"
        )
    kind = asked
    for path in (folder / "scores.json" for folder in folders):
        if not path.is_file():
            continue
        said = read_json(path, expected=EXPECTED, format=SCORES_FORMAT, fields={"class_shown": str, "heat_map": str})
        if said["class_shown"] != class_name:
            raise RequestError(
                f"{path}: the heat map is of class {said['class_shown']}, expected {class_name}, the class with lesions: run "
                "inference without --heat_map_writer#target_class"
            )
        is_kind: MapValues = "probability" if said["heat_map"] in (LESION_MAP.title, PATCH_MAP.title) else "cam"
        kind = kind or is_kind
        if is_kind != kind:
            remedy = f"give --map {is_kind}" if asked else "run inference anew, for all slides"
            raise RequestError(
                f"{path}: the heat map is a {said['heat_map']}, expected one to be scored by --map {kind}: {remedy}"
            )
    return kind or "cam"
