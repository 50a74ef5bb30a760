"""What the figures of a benchmark belong to: the machine, the versions of what does the work, and the commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def machine(threads: int) -> dict[str, object]:
    """What the figures belong to."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    versions = {}
    for name in (
        "torch",
        "monai",
        "tifffile",
        "simplejpeg",
        "h5py",
        "cucim-cu13",
        "cucim-cu12",
        "openslide-python",
        "openvino",
        "onnxruntime",
        "dask",
        "numpy",
    ):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": model,
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def commit() -> str:
    """The short name of the commit that is checked out, with a plus where files were changed since; empty outside of a clone."""
    words = ["git", "-C", str(REPO), "describe", "--always", "--abbrev=9", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
