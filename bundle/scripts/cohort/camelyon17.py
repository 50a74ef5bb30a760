"""Camelyon17: five lymph nodes per patient, labels from ``stage_labels.csv``.

Source: https://camelyon17.grand-challenge.org/Data/; Bandi et al., IEEE TMI 38(2), 2019. Slides are named
``patient_000_node_0.tif``; of 200 patients the 100 of the training set have labels, 20 of each of five centres in their order.
"""

import re
from pathlib import Path

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import CamelyonLabels, IsolatedCells
from ..slides.table import SlideRow
from .found import Cohort, label_file, read_cells, slide_files

STAGES = ("negative", "itc", "micro", "macro")
PATIENTS_PER_CENTRE = 20
_NAME = re.compile(r"(patient_(\d{3}))_node_(\d)", re.IGNORECASE)


def list_camelyon17(
    slides: str | Path,
    *,
    reference: str | Path | None = None,
    labels: CamelyonLabels = "binary",
    itc: IsolatedCells = "tumor",
) -> Cohort:
    """List the labelled slides below ``slides``.

    Args:
        slides: the data set's folder, zip files unpacked.
        reference: labels; by default ``stage_labels.csv`` (or ``stages.csv``) somewhere below ``slides``.
        labels: "binary": normal and tumor; "stages": negative, itc, micro and macro.
        itc: what a slide with nothing but isolated tumour cells is in "binary": "tumor", "normal" (the challenge does not count
            such nodes as positive) or "drop".

    Returns:
        rows without split; columns ``centre`` (0 to 4), ``stage`` and ``pn_stage`` (of the patient).

    Raises:
        RequestError: an option is unknown, or there is no slide of the set or no label.
    """
    checked("labels", labels)
    checked("itc", itc)
    table = label_file(slides, ("stage_labels.csv", "stages.csv"), reference)
    if table is None:
        raise RequestError(
            f"{slides}: no stage_labels.csv in it, expected the set's labels: put it there, or name it with --reference"
        )
    stages = {cells[0].lower().removesuffix(".tif"): cells[1] for cells in read_cells(table) if len(cells) > 1}
    names = dict.fromkeys(("micro", "macro"), "tumor") | {"negative": "normal", "itc": itc}
    cohort = Cohort()
    seen: set[str] = set()
    for path in slide_files(slides):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            cohort.leave_out(path, "not named as a slide of the set")
            continue
        name, patient = match[0].lower(), match[1].lower()
        stage = stages.get(name, "").lower()
        label = stage if labels == "stages" else names.get(stage, "")
        if stage and stage not in STAGES:
            raise RequestError(
                f"{table}: stage {stage!r} of {name}, expected one of {', '.join(STAGES)}: fetch it anew"
            )
        if name in seen:
            cohort.leave_out(path, "second file of one slide")
        elif not stage:
            cohort.leave_out(path, "no label: test set")
        elif label == "drop":
            cohort.leave_out(path, "isolated tumour cells alone")
        else:
            extra = {
                "centre": str(int(match[2]) // PATIENTS_PER_CENTRE),
                "stage": stage,
                "pn_stage": stages.get(f"{patient}.zip", stages.get(patient, "")),
            }
            cohort.rows.append(SlideRow("", path, label, patient=patient, extra=extra))
        seen.add(name)
    if not cohort.rows:
        raise RequestError(f"{slides}: no labelled slide of Camelyon17, expected files such as patient_000_node_0.tif")
    return cohort
