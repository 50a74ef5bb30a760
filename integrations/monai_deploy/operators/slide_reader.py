"""The slides of a request, one message each."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import SelectedSeries, StudySelectedSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from scripts.common.errors import RequestError
from scripts.slides.table import SlideRow, read_slides

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """A slide and, if it is DICOM, its series, of which one instance without pixels stands for all."""

    row: SlideRow
    series: StudySelectedSeries | None = None


def read_cases(slides: str | Path) -> list[Case]:
    """List the slides of a file, a folder or a CSV; a DICOM series is one slide, and other DICOM objects are left out.

    Raises:
        RequestError: there is no slide, or the table is malformed.
    """
    cases: list[Case] = []
    seen: set[tuple[Path, str]] = set()
    left_out = 0
    for row in read_slides(slides):
        header = _dicom_header(row.path)
        if header is None:
            cases.append(Case(row))
        elif header.SOPClassUID != VLWholeSlideMicroscopyImageStorage:
            left_out += 1
        elif (key := (row.path.parent, header.SeriesInstanceUID)) not in seen:  # OpenSlide joins the files of a series
            seen.add(key)
            cases.append(Case(row, _selected(header)))
    if not cases:
        raise RequestError(
            f"{slides}: {left_out} DICOM files, none a whole slide image, expected one at least: name a slide"
        )
    if left_out:
        _LOGGER.warning("%d DICOM files are no whole slide images and are left out", left_out)
    return cases


def _dicom_header(path: Path) -> Dataset | None:
    """Read a DICOM file without its pixels; None for what is none (if it is no slide either, encoding will say so)."""
    if not path.is_file():
        return None
    try:
        header = dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    return header if {"SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"} <= set(header.dir()) else None


def _selected(header: Dataset) -> StudySelectedSeries:
    """Say which series a slide is, in the words of MONAI Deploy's writers."""
    series = DICOMSeries(header.SeriesInstanceUID)
    series.add_sop_instance(header)
    study = DICOMStudy(header.StudyInstanceUID)
    study.add_series(series)
    selected = StudySelectedSeries(study)
    selected.add_selected_series(SelectedSeries("slide", series))
    return selected


class SlideReaderOperator(Operator):
    """Sends one :class:`Case` each time it is called.

    Named output:
        slide: the case.
    """

    def __init__(self, fragment: Fragment, *args: object, cases: list[Case], **kwargs: object) -> None:
        self._cases: Iterator[Case] = iter(cases)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.output("slide")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Send the next case."""
        op_output.emit(next(self._cases), "slide")
