"""Section "parts": the processor's seconds in each part of Transformation, and what so many cores could do with them."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from repeated_slide import SIDES_PX, write_repeated_slide
from transformation_speed import BATCH, Case, RandomEncoder, encode_all, seconds

from scripts.encoding.embed import write_embedding
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.prepared import prepare_slide
from scripts.encoding.settings import parameters_of
from scripts.encoding.thumbnail import build_thumbnail
from scripts.slides.geometry import T_PIXELS_PER_PATCH
from scripts.slides.opening import Reading, open_slide

BATCHES = 16  # encoded again and again until they are as many patches as the slide has


def parts(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Do each part alone, then all of them as one, for both reading levels, ``--repeats`` times in turn."""
    torch.set_num_threads(arguments.threads)
    slide = arguments.slide or write_repeated_slide(folder / "parts.tif", side_px=SIDES_PX["1e9"])
    encoder = NamedEncoder(RandomEncoder(), device=torch.device("cpu"), engine="auto", batch_size=BATCH)
    cases = {level: Case(slide, level, arguments.threads) for level in ("auto", "highest")}
    work = {level: works(case, encoder, folder) for level, case in cases.items()}
    encode_all(encoder, cases["auto"].in_memory(2), 1)  # the first call of a thread builds its request
    found = {
        level: {
            "patches": case.patches,
            "processor_s": {part: [] for part in work[level]},
            "seconds": [],
            "of_reading": {"decoding": [], "copying": []},
        }
        for level, case in cases.items()
    }
    for _ in range(arguments.repeats):
        for level, of_part in work.items():
            for part, do in of_part.items():
                before = time.process_time()
                elapsed = seconds(do)
                found[level]["processor_s"][part].append(spent := time.process_time() - before)
                print(f"{part}, {level}: {spent:.2f} processor seconds", file=sys.stderr, flush=True)
            found[level]["seconds"].append(elapsed)  # of the last one, which is all of them
            cases[level].raw()
            found[level]["of_reading"]["decoding"].append(cases[level].raw_processor_s)
            found[level]["of_reading"]["copying"].append(cases[level].copying_processor_s())
    return {"levels": found, "threads": arguments.threads, "engine": encoder.engine}


def works(case: Case, encoder: NamedEncoder, folder: Path) -> dict[str, Callable[[], object]]:
    """Name the parts, for every patch of the slide; the last one is all of them."""
    batches = case.in_memory(BATCHES)
    order = [batches[index % len(batches)] for index in range(-(-case.patches // BATCH))]
    order[-1] = order[-1][: case.patches - BATCH * (len(order) - 1)]
    return {
        "tissue mask": partial(tissue_mask, case),
        "reading": case.reader_s,
        "encoding": partial(encode_all, encoder, order, 1),
        "thumbnail": partial(thumbnail, case),
        "writing": partial(writing, case, encoder, folder),
        "end to end": partial(case.end_to_end, encoder, folder),
    }


def tissue_mask(case: Case) -> None:
    """Find the tissue of the slide."""
    with open_slide(case.row.path, Reading(num_workers=case.threads)) as reader:
        prepare_slide(reader, case.prepared.plan, case.settings)


def thumbnail(case: Case) -> None:
    """Make T."""
    with open_slide(case.row.path, Reading(num_workers=case.threads)) as reader:
        build_thumbnail(reader, case.prepared.grid, levels=case.settings.thumbnail_levels)


def writing(case: Case, encoder: NamedEncoder, folder: Path) -> None:
    """Write the embedding file, checksums included, of features and means of quarters that are there."""
    rows, columns = (T_PIXELS_PER_PATCH * side for side in case.prepared.plan.grid.shape_yx)
    prepared = replace(case.prepared, finest=torch.zeros(rows, columns, 3))
    features, readable = np.ones((case.patches, encoder.channels), np.float32), np.ones(case.patches, dtype=bool)
    batches = ((features[at : at + BATCH], readable[at : at + BATCH]) for at in range(0, case.patches, BATCH))
    with open_slide(case.row.path) as reader:
        parameters = parameters_of(case.row, encoder.identity, case.settings, reader)
        path = folder / "written.h5"
        write_embedding(case.row, path, reader, prepared, batches, encoder, case.settings, parameters)
