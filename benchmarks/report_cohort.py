"""Time, memory and size of the report of many slides.

    python benchmarks/report_cohort.py --folder bench/report --slides 1000

Writes what inference leaves, without a network: predictions of random numbers, and heat maps of blobs on a grid of ``--rows`` times
``--columns`` patches, of which ``--distinct`` slides have their own and the others copies. There are no slide files: the pictures
are of thumbnails, and no pixels of slides are read. Then ``reporting`` makes the pages, in this process.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from machine import peak_gib

from scripts.encoding.store import Embedding
from scripts.evaluation.predictions import Prediction, write_predictions
from scripts.inference.exports import write_nifti, write_observed
from scripts.inference.heat_map_view import HeatMapView
from scripts.inference.record import SlideOrigin, write_run, write_scores
from scripts.report.report_run import write_reports
from scripts.slides.geometry import PatchGrid
from scripts.training.model_card import ModelCard

PATCH_PX, MPP = 128, 0.5
NAMES = ("normal", "tumor")
CHANNELS = 320


def blobs(rng: np.random.Generator, shape_yx: tuple[int, int], sigma: float) -> np.ndarray:
    """A smooth field from 0 to 1."""
    field = ndimage.gaussian_filter(rng.normal(size=shape_yx), sigma)
    return (field - field.min()) / np.ptp(field)


def write_slide(folder: Path, prediction: Prediction, shape_yx: tuple[int, int], seed: int) -> None:
    """Write the folder that the report reads of one slide; its picture is the thumbnail of coloured noise."""
    rng = np.random.default_rng(seed)
    rows, columns = shape_yx
    observed = blobs(rng, shape_yx, max(shape_yx) / 10) > 0.5
    cam = (blobs(rng, shape_yx, 2) * observed).astype(np.float32)
    pink = np.array([210, 140, 190]) + 40 * (blobs(rng, (2 * rows, 2 * columns), 1)[:, :, None] - 0.5)
    grid_yx = np.argwhere(observed).astype(np.int32)
    view = HeatMapView(
        cam,
        observed,
        pink.astype(np.uint8),
        PatchGrid(PATCH_PX, (0, 0), shape_yx),
        (MPP, MPP),
        NAMES[1],
        folder / "gone.tif",
    )
    embedding = Embedding(
        features=np.ones((len(grid_yx), 1), dtype=np.float32),
        coords_xy_px=grid_yx[:, ::-1].astype(np.int64) * PATCH_PX,
        grid_yx=grid_yx,
        shape_yx=shape_yx,
        patch_px_level0=PATCH_PX,
        thumbnail=None,
        attributes={"mpp_x": MPP, "mpp_y": MPP},
    )
    folder.mkdir(parents=True)
    write_nifti(folder / "cam.nii.gz", view)
    write_observed(folder / "observed.png", observed)
    item = {"slide": str(view.slide)}
    write_scores(folder, view, item=item, prediction=prediction, embedding=embedding)


def write_inference(folder: Path, slides: int, distinct: int, shape_yx: tuple[int, int]) -> None:
    """Write ``predictions.csv``, ``inference.json`` and the slides' folders."""
    rng = np.random.default_rng(0)
    predictions = [
        Prediction(
            slide_id=f"slide_{index:05d}",
            label=index % 2,
            probabilities=(1 - p, p),
            stream_score=float(rng.random()),
            channel_scores=tuple(map(float, rng.random(CHANNELS))),
        )
        for index, p in enumerate(map(float, np.clip(rng.normal(0.4 + 0.2 * (np.arange(slides) % 2), 0.2), 0.01, 0.99)))
    ]
    for index, prediction in enumerate(predictions):
        if index < distinct:
            write_slide(folder / prediction.slide_id, prediction, shape_yx, seed=index)
        else:
            shutil.copytree(folder / predictions[index % distinct].slide_id, folder / prediction.slide_id)
    network = {"embedding_channels": 128, "thumbnail_levels": 3, "thumbnail_stream": True, "sparse": True}
    card = ModelCard(class_names=NAMES, threshold=0.5, threshold_from="val", encoder=None, network=network)
    write_predictions(folder / "predictions.csv", predictions, class_names=NAMES, threshold=0.5)
    origins = {one.slide_id: SlideOrigin(f"p{index}", None) for index, one in enumerate(predictions)}
    settings = {"seed": 0}
    write_run(folder / "inference.json", card=card, threshold=0.5, settings=settings, slides=origins, mapped=origins)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Write the inputs, make the report, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for inputs and pages; is emptied")
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--distinct", type=int, default=8)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--columns", type=int, default=160)
    given = parser.parse_args(arguments)
    shutil.rmtree(given.folder, ignore_errors=True)
    write_inference(given.folder / "predictions", given.slides, given.distinct, (given.rows, given.columns))
    begin, processor = time.perf_counter(), time.process_time()
    report = write_reports(given.folder / "predictions", output_dir=given.folder / "report")
    found = {
        "slides": given.slides,
        "seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "peak_gib": round(peak_gib(), 2),
        "index_mb": round(report.stat().st_size / 1e6, 2),
        "pages_mb": round(sum(path.stat().st_size for path in (report.parent / "slides").iterdir()) / 1e6, 1),
    }
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
