"""What tells a DICOM file, and its series, from others."""

import struct
from pathlib import Path

SERIES, OTHER = "1.2.826.0.1.3680043.2.1", "1.2.826.0.1.3680043.2.12"


def write_dicom(path: Path, *series: str, implicit: bool = False) -> Path:
    """The head of a DICOM file: preamble, magic, and the tag of each series."""
    elements = b""
    for uid in series:
        value = uid.encode() + b"\0" * (len(uid) % 2)
        length = struct.pack("<I", len(value)) if implicit else b"UI" + struct.pack("<H", len(value))
        elements += b"\x20\x00\x0e\x00" + length + value
    path.write_bytes(bytes(128) + b"DICM" + elements + b"\x20\x00\x10\x00SH\x02\x0012")
    return path
