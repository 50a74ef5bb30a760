"""A writer of small DICOM slides, for tests: VL Whole Slide Microscopy, uncompressed, one file per level, by pydicom alone.

Format: DICOM PS3.3 A.32.8 (VL Whole Slide Microscopy Image IOD).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage

ROOT = "1.2.826.0.1.3680043.8.498.77"
STUDY, SERIES, FRAME_OF_REFERENCE, PYRAMID = (f"{ROOT}.{number}" for number in range(1, 5))
CORNER_XY_MM = (40.0, 20.0)
"""Where on the glass the middle of the first pixel lies."""

ORIENTATIONS = {
    "rows along +x": (1, 0, 0, 0, 1, 0),
    "turned by half": (-1, 0, 0, 0, -1, 0),
    "rows along +y": (0, 1, 0, 1, 0, 0),
}
"""ImageOrientationSlide: direction of the rows, then of the columns."""


def write_dicom_slide(
    folder: Path,
    levels: Sequence[np.ndarray],
    *,
    mpp_xy: tuple[float, float] = (2.0, 2.0),
    tile_px: int = 64,
    orientation: str = "rows along +x",
) -> list[Path]:
    """Write ``level<n>.dcm`` into ``folder``, RGB (H, W, 3) the finest first, and return the paths."""
    paths = []
    for number, pixels in enumerate(levels):
        height, width = pixels.shape[:2]
        step = levels[0].shape[1] / width
        rows, columns = -(-height // tile_px), -(-width // tile_px)
        padded = np.full((rows * tile_px, columns * tile_px, 3), 255, np.uint8)
        padded[:height, :width] = pixels
        tiles = padded.reshape(rows, tile_px, columns, tile_px, 3).swapaxes(1, 2)

        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
        meta.MediaStorageSOPInstanceUID = f"{SERIES}.{number + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"level{number}.dcm"
        slide = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        _describe_context(slide, number)
        slide.Rows = slide.Columns = tile_px
        slide.NumberOfFrames = rows * columns
        slide.TotalPixelMatrixColumns, slide.TotalPixelMatrixRows = width, height
        slide.ImagedVolumeWidth, slide.ImagedVolumeHeight = (
            side * step * mpp / 1000 for side, mpp in zip((width, height), mpp_xy, strict=True)
        )
        slide.ImagedVolumeDepth = 0.005
        origin = Dataset()
        origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = CORNER_XY_MM
        slide.TotalPixelMatrixOriginSequence = Items([origin])
        slide.ImageOrientationSlide = list(ORIENTATIONS[orientation])
        measures = Dataset()
        measures.PixelSpacing = [mpp * step / 1000 for mpp in mpp_xy[::-1]]  # between rows, then between columns
        measures.SliceThickness = 0.005
        kind = Dataset()
        kind.FrameType = slide.ImageType
        path_id = Dataset()
        path_id.OpticalPathIdentifier = "1"
        shared = Dataset()
        shared.PixelMeasuresSequence = Items([measures])
        shared.WholeSlideMicroscopyImageFrameTypeSequence = Items([kind])
        shared.OpticalPathIdentificationSequence = Items([path_id])
        slide.SharedFunctionalGroupsSequence = Items([shared])
        slide.PixelData = tiles.tobytes()
        slide.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _describe_context(slide: Dataset, number: int) -> None:
    """Set what does not depend on the pixels."""
    slide.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    slide.SOPInstanceUID = f"{SERIES}.{number + 1}"
    slide.StudyInstanceUID, slide.SeriesInstanceUID = STUDY, SERIES
    slide.FrameOfReferenceUID, slide.PyramidUID = FRAME_OF_REFERENCE, PYRAMID
    slide.PositionReferenceIndicator = "SLIDE_CORNER"
    slide.PatientName, slide.PatientID, slide.PatientBirthDate, slide.PatientSex = "Test^Slide", "T1", "", "O"
    slide.StudyID, slide.StudyDate, slide.StudyTime = "1", "20240102", "030405"
    slide.AccessionNumber, slide.ReferringPhysicianName = "A1", ""
    slide.Modality, slide.SeriesNumber, slide.InstanceNumber = "SM", 1, number + 1
    slide.Manufacturer, slide.ManufacturerModelName = "tests", "tests"
    slide.DeviceSerialNumber, slide.SoftwareVersions = "1", "1"
    slide.ContentDate, slide.ContentTime, slide.AcquisitionDateTime = "20240102", "030405", "20240102030405"
    slide.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE" if number == 0 else "RESAMPLED"]
    slide.SamplesPerPixel, slide.PhotometricInterpretation, slide.PlanarConfiguration = 3, "RGB", 0
    slide.BitsAllocated, slide.BitsStored, slide.HighBit, slide.PixelRepresentation = 8, 8, 7, 0
    slide.BurnedInAnnotation, slide.LossyImageCompression = "NO", "00"
    slide.SpecimenLabelInImage, slide.ExtendedDepthOfField, slide.FocusMethod = "NO", "NO", "AUTO"
    slide.VolumetricProperties, slide.DimensionOrganizationType = "VOLUME", "TILED_FULL"
    slide.NumberOfOpticalPaths = slide.TotalPixelMatrixFocalPlanes = 1
    slide.ContainerIdentifier = "C1"
    slide.IssuerOfTheContainerIdentifierSequence = Items()
    slide.ContainerTypeCodeSequence = Items([_code("433466003", "SCT", "Microscope slide")])
    slide.AcquisitionContextSequence = Items()
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "S1", f"{ROOT}.9"
    specimen.IssuerOfTheSpecimenIdentifierSequence, specimen.SpecimenPreparationSequence = Items(), Items()
    slide.SpecimenDescriptionSequence = Items([specimen])
    optics = Dataset()
    optics.OpticalPathIdentifier = "1"
    optics.IlluminationTypeCodeSequence = Items([_code("111744", "DCM", "Brightfield illumination")])
    optics.IlluminationColorCodeSequence = Items([_code("371251000", "SCT", "White color")])
    slide.OpticalPathSequence = Items([optics])
    organization = Dataset()
    organization.DimensionOrganizationUID = f"{ROOT}.8"
    slide.DimensionOrganizationSequence = Items([organization])


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
