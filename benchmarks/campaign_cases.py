"""What a case of the campaign is, and how its command is judged."""

import csv
import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from campaign_commands import TRACE, Ended

FAULTS = ("wrong", "hang", "lost", "traceback", "crash")
OUTCOMES = ("right", "clear", "unnoticeable", *FAULTS)
WITHOUT_COMPARISON = re.compile(r"events\.out.*|last\.pt")
"""Logs of times, and the state of a training that can go on."""

PASSED_ON = ("network", "validation", "training", "versions", "intended_use")
"""Of a model card: no part of what decides a prediction; but for the network's arguments, of which the predictions tell."""


@dataclass(frozen=True)
class Found:
    """One case and what became of it."""

    kind: str
    case: str
    what: str
    outcome: str
    said: str = ""


def how_it_ended(ended: Ended, before: set[str], after: set[str]) -> tuple[str, str] | None:
    """Judge how a command ended; None where its outputs decide.

    Args:
        ended: the command.
        before: what lay in the output folder.
        after: what lies there now.
    """
    if ended.code is None:
        return "hang", ended.said[-300:]
    if TRACE in ended.said:
        return "traceback", ended.said[-600:]
    if ended.code not in (0, 1, 2):
        return "crash", f"exit code {ended.code}: {ended.said[-300:]}"
    if ended.code and not ended.error:
        return "wrong", f"exit code {ended.code} without a reason: {ended.said[-300:]}"
    if ended.code == 2:
        written = sorted(after - before)
        return ("wrong", f"refused, but wrote {written[:3]}: {ended.error}") if written else ("clear", ended.error)
    return None


def names_in(folder: Path) -> set[str]:
    """The files below a folder, without those that a stage keeps for itself."""
    if not folder.is_dir():
        return set()
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if not path.name.startswith(".")}


def differing(reference: Path, output: Path) -> list[str]:
    """What differs between two output folders, by name; logs do not count."""
    wanted, got = (
        {name for name in names_in(folder) if not WITHOUT_COMPARISON.fullmatch(Path(name).name)}
        for folder in (reference, output)
    )
    found = [f"{name} {'is missing' if name in wanted else 'is there'}" for name in sorted(wanted ^ got)]
    for name in sorted(wanted & got):
        if not same_content(reference / name, output / name):
            found.append(f"{name} differs")
    return found


def same_content(one: Path, other: Path) -> bool:
    """Whether two files of a stage hold the same; times and places of the run do not count."""
    try:
        first, second = (_content(path) for path in (one, other))
    except (OSError, RuntimeError, KeyError, ValueError, EOFError):
        return False
    return _equal(first, second)


def _content(path: Path) -> Any:
    suffix = path.suffix
    if suffix == ".h5":
        with h5py.File(path, locking=False) as file:  # what a killed command left behind may hold its lock still
            return {name: file[name][()] for name in file if isinstance(file[name], h5py.Dataset)}
    if suffix == ".pt":
        return torch.load(path, map_location="cpu", weights_only=True)
    if suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            {name: _placeless(cell) for name, cell in row.items() if name not in ("seconds", "status")} for row in rows
        ]
    if path.name == "inference.json":  # what the card says of its training is passed on as it stands
        content = json.loads(path.read_text(encoding="utf-8"))
        content["card"] = {name: value for name, value in content["card"].items() if name not in PASSED_ON}
        return _placeless(json.dumps(content))
    if path.name == "split.json":  # the tables themselves are compared, and hold paths
        return {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "files"}
    if suffix in (".json", ".html", ".md"):
        return _placeless(path.read_text(encoding="utf-8"))
    return path.read_bytes()


def _placeless(text: str | None) -> str:
    """A text without the folder of the case, and without the way from there to the world."""
    return re.sub(r"[\w./-]*/(?:cases|reference)/[\w-]+|(?:\.\./)+(?:world/)?", "", text or "")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return (
            isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
        )
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)
