"""The report on a DICOM slide, with the patient's name as the slide has it."""

import tempfile
from copy import deepcopy
from pathlib import Path

from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.operators.dicom_text_sr_writer_operator import DICOMTextSRWriterOperator
from pydicom import dcmread

from scripts.common.files import atomic_path

COPIED_TEXTS = (
    "AccessionNumber",
    "BodyPartExamined",
    "IssuerOfPatientID",
    "PatientID",
    "PatientName",
    "ReferringPhysicianName",
    "RequestedProcedureID",
    "StudyDescription",
    "StudyID",
)
"""What the base class takes from the slide and writes in Latin-1, every other letter as a question mark (version 4.0.0)."""


class ReportWriterOperator(DICOMTextSRWriterOperator):
    """Writes a Basic Text SR in UTF-8, whole or not at all; arguments and inputs are those of the base class."""

    def write(self, content_text: str, dicom_series: DICOMSeries, output_dir: Path) -> None:
        """Write the report on a series as ``<SOP instance UID>.dcm``."""
        slide = dicom_series.get_sop_instances()[0].get_native_sop_instance()
        texts = {keyword: slide[keyword].value for keyword in COPIED_TEXTS if keyword in slide}
        plain = deepcopy(slide)
        for keyword in texts:
            setattr(plain, keyword, "")
        series = DICOMSeries(dicom_series.SeriesInstanceUID)
        series.add_sop_instance(plain)
        with tempfile.TemporaryDirectory() as folder:
            super().write("to be replaced", series, Path(folder))
            (path,) = Path(folder).iterdir()
            report = dcmread(path)
        report.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in texts.items():
            setattr(report, keyword, value)
        report.ContentSequence[0].TextValue = content_text
        with atomic_path(output_dir / path.name) as partial:
            report.save_as(partial, enforce_file_format=True)
