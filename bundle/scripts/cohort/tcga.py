"""TCGA-LUSC: label, patient and preparation from the slide's barcode.

Sources: https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/ and
https://gdc.cancer.gov/resources-tcga-users/tcga-code-tables/sample-type-codes. A slide file of the GDC is named
``TCGA-22-0944-01A-01-TS1.<uuid>.svs`` and lies in a folder named by another UUID: site, participant, sample type and vial, portion,
kind of section. The project stands in no file name: put slides of one project alone below the folder.
"""

import re
from pathlib import Path

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import Section
from ..slides.table import SlideRow
from .found import Cohort, slide_files

SAMPLE_TYPES = {"01": "tumor", "11": "normal"}
"""Primary solid tumour and solid tissue normal; slides of other samples are left out."""

SECTIONS = {"TS": "frozen top", "MS": "frozen middle", "BS": "frozen bottom", "DX": "diagnostic"}
_NAME = re.compile(
    r"((TCGA-([A-Z0-9]{2})-[A-Z0-9]{4})-(\d{2})[A-Z]-\d{2}-(TS|MS|BS|DX)[A-Z0-9]{0,2})(\.[0-9A-F-]{36})?", re.IGNORECASE
)


def list_tcga(slides: str | Path, *, section: Section = "frozen") -> Cohort:
    """List the tumour and the normal slides below ``slides``.

    Args:
        slides: folder of the slides, at any depth.
        section: "frozen": top, middle and bottom sections; "diagnostic": paraffin sections, of which there are no normal ones;
            "any": both, in which case the preparation gives the label away.

    Returns:
        rows without split; columns ``section``, ``sample_type``, ``site`` (of tissue collection) and ``barcode``.

    Raises:
        RequestError: the option is unknown, or there is no such slide.
    """
    checked("section", section)
    cohort = Cohort()
    seen: set[str] = set()
    for path in slide_files(slides):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            cohort.leave_out(path, "name is no TCGA slide barcode")
            continue
        barcode, patient, site, sample_type, kind = (match[index].upper() for index in range(1, 6))
        label = SAMPLE_TYPES.get(sample_type)
        prepared = SECTIONS[kind]
        if label is None:
            cohort.leave_out(path, f"sample type {sample_type}, neither 01 nor 11")
        elif section != "any" and prepared.split()[0] != section:
            cohort.leave_out(path, f"{prepared.split()[0]} section")
        elif barcode in seen:
            cohort.leave_out(path, "second file of one barcode")
        else:
            seen.add(barcode)
            extra = {"section": prepared, "sample_type": sample_type, "site": site, "barcode": barcode}
            cohort.rows.append(SlideRow("", path, label, patient=patient, extra=extra))
    if not cohort.rows:
        raise RequestError(
            f"{slides}: no {section} slide of TCGA, expected files such as TCGA-22-0944-01A-01-TS1.<uuid>.svs"
        )
    return cohort
