"""Show that a change left the results alone: run the demo of two checkouts with this Python, and compare what they made.

    python tools/compare_checkouts.py BEFORE AFTER [--slide SLIDE ...] [--work DIR]

BEFORE and AFTER are folders of two checkouts, such as two worktrees of git. Each runs its own ``examples/demo.sh``: slides, S-CAE,
embeddings, DSNet, evaluation, inference, some seven minutes on two cores. Each encodes every SLIDE with the S-CAE that it trained, too.
Compared are embeddings (each dataset and attribute), weights (each tensor) and predictions (each byte). There is one line per difference,
and exit code 1 where there is any.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

COMPARED = ("embeddings/*.h5", "models/*.pt", "predictions/predictions.csv", "evaluation/predictions.csv", "real/*.h5")

_LOGGER = logging.getLogger("compare_checkouts")


def run(checkout: Path, work: Path, slides: list[Path]) -> None:
    """Run the demo of ``checkout`` into ``work``, and encode ``slides`` into ``work``/real.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    environment = {**os.environ, "PYTHON": sys.executable, "DEMO": str(work), "MODELS": str(work / "models")}
    subprocess.run(["bash", "examples/demo.sh"], cwd=checkout, env=environment, check=True)
    for slide in slides:
        command = [sys.executable, "-m", "monai.bundle", "run", "encoding", "--bundle_root", "bundle", "--config_file"]
        options = [
            "--slides",
            str(slide),
            "--output_dir",
            str(work / "real"),
            "--encoder",
            str(work / "models/scae.pt"),
        ]
        subprocess.run([*command, "bundle/configs/encode.yaml", *options], cwd=checkout, env=environment, check=True)


def content(path: Path) -> dict[str, bytes]:
    """What ``path`` holds, by name: datasets and attributes of HDF5, tensors of weights, else all of its bytes."""
    if path.suffix == ".h5":
        return dict(_of_hdf5(path))
    if path.suffix == ".pt":
        return dict(_of_weights("", torch.load(path, map_location="cpu", weights_only=True)))
    return {"bytes": path.read_bytes()}


def _of_hdf5(path: Path) -> Iterator[tuple[str, bytes]]:
    with h5py.File(path) as file:
        names = ["/"]
        file.visit(names.append)
        for name in names:
            node = file[name]
            if isinstance(node, h5py.Dataset):
                yield name, repr((node.dtype, node.shape)).encode() + np.asarray(node[()]).tobytes()
            for key, value in node.attrs.items():
                yield f"{name} {key}", repr(np.asarray(value).dtype).encode() + np.asarray(value).tobytes()


def _of_weights(name: str, value: Any) -> Iterator[tuple[str, bytes]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _of_weights(f"{name}.{key}".strip("."), part)
    elif isinstance(value, torch.Tensor):
        dense = value.detach().contiguous()
        yield (
            name,
            repr((dense.dtype, tuple(dense.shape))).encode() + dense.flatten().view(torch.uint8).numpy().tobytes(),
        )
    else:
        yield name, repr(value).encode()


def differences(before: Path, after: Path) -> Iterator[str]:
    """One line per part of a compared file that only one of two folders has, or that differs; and one where there is nothing to compare."""
    files = sorted(
        {path.relative_to(root) for root in (before, after) for glob in COMPARED for path in root.glob(glob)}
    )
    if not files:
        yield f"{before} and {after}: no file to compare, expected {', '.join(COMPARED)}"
    for name in files:
        if not ((before / name).is_file() and (after / name).is_file()):
            yield f"{name}: only {'before' if (before / name).is_file() else 'after'}"
            continue
        old, new = content(before / name), content(after / name)
        yield from (f"{name}: {part} differs" for part in sorted({*old, *new}) if old.get(part) != new.get(part))


def main() -> int:
    """Return 0 where everything is the same, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--slide", type=Path, action="append", default=[], help="a real slide to encode, too; may be repeated"
    )
    parser.add_argument(
        "--work", type=Path, help="where the two write; default: a temporary folder, removed at the end"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work or Path(scratch)).resolve()
        for name in ("before", "after"):
            run(getattr(options, name), work / name, [slide.resolve() for slide in options.slide])
        found = list(differences(work / "before", work / "after"))
    for line in found:
        _LOGGER.info("%s", line)
    _LOGGER.info("%s", f"{len(found)} differences" if found else "no difference")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
