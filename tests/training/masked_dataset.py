"""Embeddings whose table names lesion masks, and what the later stages make of a network that learnt from them."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_flow import ON_CPU, read_rows, run_config
from training.embedding_files import STEP_PX, write_dataset


def write_masked_dataset(folder: Path, *, names: Collection[str] | None = None) -> Path:
    """Write a dataset with masks of the named slides, or of all: the first two rows of a positive slide are lesion."""
    write_dataset(folder)
    (folder / "masks").mkdir()
    lines = (folder / "slides.csv").read_text().splitlines()
    for index, line in enumerate(lines[1:], start=1):
        name, label = line.split(".tif,")[0], line.split(",")[1]
        if names is None or name in names:
            pixels = np.zeros((6, 5 + int(name[-1])), dtype=np.uint8)
            pixels[:2] = int(label)
            Image.fromarray(pixels).save(folder / "masks" / f"{name}.png")
            lines[index] = f"{line},masks/{name}.png"
        else:
            lines[index] = f"{line},"
    (folder / "slides.csv").write_text("\n".join([f"{lines[0]},mask", *lines[1:], ""]))
    return folder


def predictions_and_score(dataset: Path, model: Path, folder: Path) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Evaluate and infer the two test slides, which must agree; return their predictions and the score of the maps in ``out``."""
    common = {"dataset_dir": dataset, "model": model, **ON_CPU}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", output_dir=folder / "eval", **common)
    run_config("inference.yaml", run_id="inference", output_dir=folder / "out", split="test", **common)
    evaluated, inferred = (read_rows(folder / name / "predictions.csv") for name in ("eval", "out"))
    assert evaluated == inferred and len(inferred) == 2
    run_config(
        "localise.yaml",
        run_id="localising",
        predictions_dir=folder / "out",
        dataset_dir=dataset,
        output_dir=folder / "score",
        split="test",
        map="probability",
        mask_px=STEP_PX,
        resamples=20,
    )
    return inferred, json.loads((folder / "score" / "localisation.json").read_text())
