"""Data sets whose slide files are empty: the builders read names and tables alone."""

from collections.abc import Iterable
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

CAMELYON16_TEST_TUMOUR = frozenset(
    {1, 2, 4, 8, 10, 11, 13, 16, 21, 26, 27, 29, 30, 33, 38, 40, 46, 48, 51, 52, 61, 64, 65, 66}
)
"""Some of the official positives; the others are normal here."""


def touch(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def write_camelyon16(folder: Path, *, layout: str = "gigadb") -> Path:
    """The set as GigaDB hands it out now, as the public cloud bucket does, or as first released (with Normal_086 and Test_049)."""
    first = layout == "first"
    normal = [number for number in range(1, 161) if first or number != 86]
    tumor = range(1, 111 if first else 112)
    test = [number for number in range(1, 131) if first or number != 49]
    places = {
        "gigadb": ("training/normal/normal", "training/tumor/tumor", "testing/images/test"),
        "bucket": ("images/normal", "images/tumor", "images/test"),
        "first": ("TrainingData/Train_Normal/Normal", "TrainingData/Train_Tumor/Tumor", "Testset/Images/Test"),
    }[layout]
    for place, numbers in zip(places, (normal, tumor, test), strict=True):
        touch(folder, (f"{place}_{number:03d}.tif" for number in numbers))
    if layout == "gigadb":
        touch(
            folder, (f"testing/evaluation/evaluation_masks/test_{number:03d}_evaluation_mask.tif" for number in (1, 2))
        )
        write_lines(folder / "testing" / "reference.csv", (
            f"test_{n:03d},Tumor,IDC,Macro" if n in CAMELYON16_TEST_TUMOUR else f"test_{n:03d},Normal,None,None" for n in test
        ))  # fmt: skip
    elif layout == "bucket":
        touch(folder, ("masks/tumor_001_mask.tif", "background_tissue/normal_001_mask.tif"))
        write_lines(folder / "evaluation" / "reference.csv", [
            "image,type,center,class",
            *(f"test_{n:03d}.tif,IDC,0,micro" if n in CAMELYON16_TEST_TUMOUR else f"test_{n:03d}.tif,,1,negative" for n in test),
        ])  # fmt: skip
    else:
        write_lines(folder / "Testset" / "Ground_Truth" / "GT.csv", (
            f"Test_{n:03d},{'Tumor,Non-IDC,Micro' if n in CAMELYON16_TEST_TUMOUR else 'Normal,None,None'}" for n in test
        ))  # fmt: skip
    return folder


def write_camelyon17(folder: Path) -> Path:
    """Patients 0 to 99 with labels, five nodes each, and two of the test set without."""
    lines = ["patient,stage"]
    stages = ("negative", "negative", "itc", "micro", "macro")
    for patient in range(100):
        lines.append(f"patient_{patient:03d}.zip,pN1")
        for node in range(5):
            name = f"patient_{patient:03d}_node_{node}.tif"
            touch(folder, [f"training/center_{patient // 20}/{name}"])
            lines.append(f"{name},{stages[node] if patient % 2 else 'negative'}")
    touch(folder, (f"testing/patients/patient_{patient}_node_0.tif" for patient in (100, 199)))
    touch(folder, ["training/lesion_annotations/patient_004_node_4_mask.tif"])
    write_lines(folder / "training" / "stage_labels.csv", lines)
    return folder


def tcga_name(patient: int, sample: str = "01A", section: str = "TS1", *, copy: int = 0) -> str:
    """Path of a slide as the GDC's client lays it: a folder by UUID, and another UUID in the name."""
    uuid = str(uuid5(NAMESPACE_OID, f"{patient} {sample} {section} {copy}"))
    portion = "00" if section.startswith("DX") else "01"
    return f"{uuid}/TCGA-{22 + patient % 3}-{patient:04d}-{sample}-{portion}-{section}.{uuid.upper()}.svs"


def write_tcga(folder: Path, *, patients: int = 40) -> Path:
    """A frozen and a diagnostic tumour slide per patient; every second has a normal frozen one, every fifth another section."""
    names = []
    for patient in range(patients):
        names += [tcga_name(patient), tcga_name(patient, "01Z", "DX1")]
        if patient % 2:
            names.append(tcga_name(patient, "11A", "TS1"))
        if patient % 5 == 0:
            names.append(tcga_name(patient, "01A", "BS1"))
    return touch(folder, names)


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
