"""What the figures of a benchmark belong to: the machine, the versions of what does the work, the commit; and the memory of a process."""

import platform
import subprocess
import sys
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


def peak_bytes() -> int:
    """Most resident memory that this process ever held.

    On Linux ``getrusage`` is of no use: a process that is started takes over the peak of the one that starts it.
    """
    if sys.platform != "linux":
        import resource  # Windows has none

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell the peak of a process' memory")


def peak_gib() -> float:
    """:func:`peak_bytes` in GiB."""
    return peak_bytes() / 2**30
