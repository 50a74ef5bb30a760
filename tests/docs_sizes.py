"""Smaller sizes, and local addresses, that replace those of the documentation's commands when a test runs them.

The network is not drawn for TensorBoard, which takes longer than training it for so few steps (tests/training/test_tracking.py does).
"""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

ALWAYS: Mapping[str, Mapping[str, str]] = {
    "cross_validating": {"max_epochs": "1"},
    "comparing": {"resamples": "50"},
    "ablating": {"max_epochs": "1", "seeds": "0", "rows": "full,mixed"},
    "comparing_methods": {"max_epochs": "1", "seeds": "0", "methods": "dsnet,dsmil", "reference": "dsnet"},
    "generating": {"train": "6", "val": "4", "test": "4", "cells": "6", "num_workers": "0"},
    "sampling": {"draw#patches_per_slide": "4"},
    "searching": {"training_steps": "2", "measured_patches": "8", "max_steps": "2"},
    "training": {"max_epochs": "1"},
    "pip": {"no-deps": ""},
    "cold_start.py": {"repeats": "1", "commands": "help"},
    "inference_cohort.py": {"slides": "2", "distinct": "1", "cells": "4"},
    "interval_coverage.py": {"sets": "2", "resamples": "50"},
    "heat_maps.py": {"methods": "gradcam", "layers": "head"},
    "mosaics.py": {"train": "4", "val": "2", "test": "2", "cells": "6"},
    "nuclei.py": {"max_epochs": "1", "patches_per_image": "4"},
    "pen_rule.py": {"slides": "1", "scans": "4", "pens": "0"},
    "fewer_slides.py": {"train": "2"},
    "recipe_variants.py": {"train": "2", "draws": "0", "seeds": "0", "variants": "recommended", "max_epochs": "1"},
    "report_cohort.py": {"slides": "12", "rows": "24", "columns": "30"},
    "section_14082.py": {"max_epochs": "1", "learn_on": "left"},
    "tissue_criterion.py": {"slides": "14082.tif"},
    "training_cohort.py": {"folder": "cohort", "slides": "4", "patches": "40", "channels": "16", "projection": "8"},
    "training_memory.py": {"rows": "12", "columns": "10", "steps": "1"},
    "transformation.py": {
        "sections": "speed parts",
        "slide": "mosaics/slides/test_000.tif",
        "repeats": "1",
        "clam_patches": "2",
        "matrix_side": "256",
    },
}
"""Options that a run's id, a script or a module gets instead of those of the page, and where the page gives none."""

WHERE_GIVEN: Mapping[str, Mapping[str, str]] = {
    "encoding": {"cluster#workers": "1"},
    "splitting": {"folds": "2"},
    "torchrun": {"nproc_per_node": "2", "rdzv_endpoint": "127.0.0.1:29511"},
}
"""The same, where the page gives the option."""

FURTHER_SEEDS = re.compile(r"(?<=for seed in 0)( \d+)+(?=;)")
"""Of a loop over seeds, all but the first, which alone is run."""

EPOCHS = "DOCS_EPOCHS"
"""The variable that sets another number of epochs of a training: the first of two says how much time is left."""

TESTS = "tests/cohort/test_folder.py"  # instead of all of them


DSNET = ("python", "-m", "monai.bundle", "run", "--bundle_root", "bundle")
"""What the pages mean by ``dsnet``."""


def smaller(words: Sequence[str]) -> list[str]:
    """Replace the sizes in the arguments of ``python`` or ``torchrun``.

    >>> smaller(["benchmarks/pen_rule.py", "--out", "pens", "--slides", "200"])
    ['benchmarks/pen_rule.py', '--out', 'pens', '--slides', '1', '--scans', '4', '--pens', '0']
    """
    given, words, name = tuple(words), list(words), program(words)
    for option, value in WHERE_GIVEN.get(name, {}).items():
        if f"--{option}" in words:
            _set(words, option, value)
    for option, value in ALWAYS.get(name, {}).items():
        _set(words, option, value)
    if name == "ablating" and ("--rows", "full") in pairwise(given):
        _set(words, "rows", "full")
    if name == "training" and any("train.yaml" in word for word in words):
        _set(words, "graph", "false")
    if name == "training" and EPOCHS in os.environ:
        _set(words, "max_epochs", os.environ[EPOCHS])
    if any("encode_raw.yaml" in word for word in words):
        _set(words, "encoder_def#side_px", "32")
    if any("encode_resnet50.yaml" in word for word in words):
        _set(words, "encoder_def#input_px", "64")
    return [*words, TESTS] if name == "pytest" else words


def program(words: Sequence[str]) -> str:
    """What sizes go by: the id of a bundle's run, else a module, else a script's name."""
    if list(words[:3]) == ["-m", "monai.bundle", "run"]:
        rest = list(words[3:])
        while rest and rest[0].startswith("--"):
            rest = rest[2:]
        return rest[0] if rest else ""
    return words[1] if words[:1] == ["-m"] else Path(words[0]).name if words else ""


def request_of(words: Sequence[str]) -> tuple[str, frozenset[tuple[str, ...]]]:
    """What a command of a page asks for, whatever the order of its options: its program, and each option with its values."""
    words = [*DSNET, *words[1:]] if words[0] == "dsnet" else list(words)
    name = program(words[1:])
    options: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            options.append([])
        if word != name:
            options[-1].append(word)
    return name, frozenset(tuple(option) for option in options)


def _set(words: list[str], option: str, value: str) -> None:
    """Give an option another value, which may be several words, in its place or at the end."""
    start = words.index(f"--{option}") if f"--{option}" in words else len(words)
    end = start + 1
    while end < len(words) and not words[end].startswith("--"):
        end += 1
    words[start:end] = [f"--{option}", *value.split()]
