"""Nuclei found by the detection map of a trained S-CAE, and by a blob detector on the haematoxylin channel.

    python benchmarks/nuclei.py --data ../shared/data/nuclei/brca-m2c --output_dir nuclei

The S-CAE is trained without labels, through the bundle's own command, on patches drawn from the training images; the points of the
training images tune what is left open in either detector (smoothing, distance, threshold), those of the validation images score it, once.
-D' stands beside D', as sparsity alone does not say which of the two are nuclei. A detection is right within 6 um of a point that no other
detection has (assignment of least cost). The interval of F1 is a percentile bootstrap of the validation images, drawn alike for all
detectors; it says nothing of further trainings. The images have 0.5 um/px: their names end in four times the resolution of the scan that
they were cut from, 1000 px per side.
"""

import argparse
import csv
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_laplace
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from skimage.color import rgb2hed
from skimage.feature import peak_local_max

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from stages import run_command

from scripts.common.weights import read_weights
from scripts.evaluation.bootstrap import resample_weights
from scripts.evaluation.interval import CI95_PERCENTILES
from scripts.patches.draw import SlideSample
from scripts.patches.nuclei import is_nucleus_rich
from scripts.patches.patch_file import patch_writer
from scripts.scae.detections import CELL_PX, local_maxima
from scripts.scae.scae_network import SCAE
from scripts.slides.geometry import PATCH_PX, PATCH_UM, resize_patches

IMAGE_MPP = 0.5
WITHIN_UM = 6.0
NETWORK_MPP = PATCH_UM / PATCH_PX
THRESHOLDS = 25  # tried at even steps of the percentiles of the maxima

Points = NDArray[np.float64]  # (N, 2): y, x in micrometres
Counts = NDArray[np.int64]  # (images,)


@dataclass(frozen=True)
class Annotated:
    """An image (H, W, 3) and its nuclei."""

    name: str
    pixels: NDArray[np.uint8]
    points: Points

    @cached_property
    def haematoxylin(self) -> NDArray[np.float64]:
        """Haematoxylin of every pixel (H, W) by colour deconvolution (Ruifrok and Johnston)."""
        return np.ascontiguousarray(rgb2hed(self.pixels)[..., 0])


@dataclass(frozen=True)
class Score:
    """Counts of each image."""

    right: Counts
    found: Counts
    real: Counts

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall over all images."""
        return float(self._f1(np.ones(len(self.right))))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of F1 over bootstrap resamples of the images."""
        low, high = np.percentile(self._f1(resample_weights(len(self.right))), CI95_PERCENTILES)
        return float(low), float(high)

    def _f1(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """F1 where each image counts as often as ``weights`` (..., images) say."""
        return 2 * (weights @ self.right) / np.maximum(weights @ (self.found + self.real), 1)


def read_images(folder: Path) -> list[Annotated]:
    """Read a split of BRCA-M2C."""
    images = []
    for path in sorted((folder / "images").glob("*.png")):
        with open(folder / "points" / f"{path.stem}_points.csv", newline="") as file:
            points = [(float(row["y"]), float(row["x"])) for row in csv.DictReader(file)]
        pixels = np.asarray(Image.open(path).convert("RGB"))
        images.append(Annotated(path.stem, pixels, np.array(points).reshape(-1, 2) * IMAGE_MPP))
    if not images:
        sys.exit(f"{folder}: holds no images/*.png, expected a split of BRCA-M2C")
    return images


def matched(found: Points, real: Points) -> int:
    """Return how many detections are right: pairs within 6 um, one to one, as many as there can be."""
    distance = cdist(found, real)
    far = distance > WITHIN_UM
    rows, columns = linear_sum_assignment(np.where(far, 1e6, distance))
    return int((~far[rows, columns]).sum())


def score(detections: list[Points], images: list[Annotated]) -> Score:
    """Count on every image."""
    right = [matched(found, image.points) for found, image in zip(detections, images, strict=True)]
    found, real = [len(points) for points in detections], [len(image.points) for image in images]
    return Score(np.array(right), np.array(found), np.array(real))


@dataclass(frozen=True)
class Maxima:
    """Local maxima of one image's response: where, and how high."""

    points: Points
    heights: NDArray[np.float64]

    def above(self, threshold: float) -> Points:
        """Return those above a threshold."""
        return self.points[self.heights > threshold]


Respond = Callable[[Annotated, float, float], Maxima]  # image, smoothing (um), least distance (um)


def maxima_of(response: NDArray[np.float64], step_um: float, distance_um: float) -> Maxima:
    """Find the maxima of a map whose values stand ``step_um`` apart."""
    distance = max(1, round(distance_um / step_um))
    peaks = peak_local_max(response, min_distance=distance, exclude_border=False)
    return Maxima((peaks + 0.5) * step_um, response[tuple(peaks.T)])


def haematoxylin_blobs(image: Annotated, smoothing_um: float, distance_um: float) -> Maxima:
    """Find the maxima of the Laplacian of a Gaussian of the haematoxylin."""
    sigma = smoothing_um / IMAGE_MPP
    return maxima_of(-(sigma**2) * gaussian_laplace(image.haematoxylin, sigma), IMAGE_MPP, distance_um)


class DetectionMap:
    """Maxima of D' of a trained S-CAE, or of -D': nothing in the paper's objective says on which side of t nuclei are."""

    def __init__(self, weights: Path, *, sign: int = 1) -> None:
        self.sign = sign
        self.network = SCAE()
        self.network.load_state_dict(read_weights(weights, network=self.network, made_by="train_scae.yaml"))
        self.network.eval()
        self.maps: dict[str, NDArray[np.float64]] = {}

    @torch.inference_mode()
    def map(self, image: Annotated) -> NDArray[np.float64]:
        """Return D' of an image, brought to the resolution of the patches."""
        if image.name not in self.maps:
            self.maps[image.name] = self.sign * self.network.detect.detection(self.trunk(image))[0, 0].double().numpy()
        return self.maps[image.name]

    def trunk(self, image: Annotated) -> torch.Tensor:
        """Return the trunk of a whole image: the network is convolutional."""
        height, width = (round(side * IMAGE_MPP / NETWORK_MPP) for side in image.pixels.shape[:2])
        resized = Image.fromarray(image.pixels).resize((width, height), Image.Resampling.BOX)
        pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255).permute(2, 0, 1)[None]
        padded = torch.nn.functional.pad(pixels, (0, -width % CELL_PX, 0, -height % CELL_PX), mode="replicate")
        return self.network.trunk(padded)

    def __call__(self, image: Annotated, smoothing_um: float, distance_um: float) -> Maxima:
        """Return the maxima of the smoothed map."""
        step_um = CELL_PX * NETWORK_MPP
        response = gaussian_filter(self.map(image), smoothing_um / step_um) if smoothing_um else self.map(image)
        return maxima_of(response, step_um, distance_um)

    @torch.inference_mode()
    def untuned(self, image: Annotated) -> Points:
        """Return the maxima at active locations of the crosswise mask: no label was used."""
        maps = torch.from_numpy(self.map(image))[None, None]
        maxima = local_maxima(maps, threshold=float(self.network.detect.threshold))[0, 0]
        return (maxima.nonzero().numpy() + 0.5) * CELL_PX * NETWORK_MPP


def tuned(
    respond: Respond, images: list[Annotated], smoothing_um: list[float], distance_um: list[float]
) -> dict[str, float]:
    """Return the settings of highest F1 on the images."""
    best: dict[str, float] = {"f1": -1.0}
    for smoothing, distance in itertools.product(smoothing_um, distance_um):
        maxima = [respond(image, smoothing, distance) for image in images]
        heights = np.concatenate([found.heights for found in maxima])
        for threshold in np.percentile(heights, np.linspace(0, 96, THRESHOLDS)):
            f1 = score([found.above(threshold) for found in maxima], images).f1
            if f1 > best["f1"]:
                best = {"f1": f1, "smoothing_um": smoothing, "distance_um": distance, "threshold": float(threshold)}
    return best


def write_patches(images: list[Annotated], path: Path, *, patches_per_image: int, seed: int) -> None:
    """Draw the S-CAE's training patches from images, as sample.yaml does from slides."""
    side = round(PATCH_UM / IMAGE_MPP)
    rng = np.random.default_rng(seed)
    with patch_writer(path, {"settings": json.dumps({"patches_per_image": patches_per_image}), "seed": seed}) as append:
        for image in images:
            room = np.array(image.pixels.shape[1::-1]) - side + 1
            corners = rng.integers(room, size=(patches_per_image, 2))
            cut = np.stack([image.pixels[y : y + side, x : x + side] for x, y in corners])
            resized = resize_patches(torch.from_numpy(cut)).round().clamp(0, 255).to(torch.uint8)
            drawn = np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())
            append(image.name, SlideSample(drawn, corners, is_nucleus_rich(cut), len(cut), ""))


def main() -> None:
    """Train, tune, score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="BRCA-M2C: train and val, each with images and points")
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="patches and weights; those that are there are kept"
    )
    parser.add_argument("--objectives", nargs="+", default=["paper", "extended"])
    parser.add_argument("--sparsity_rate", type=float, default=90.0)
    parser.add_argument("--patches_per_image", type=int, default=40)
    parser.add_argument("--max_epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    images, unseen = read_images(arguments.data / "train"), read_images(arguments.data / "val")
    detectors: list[tuple[str, Respond, list[float]]] = [
        ("haematoxylin, LoG", haematoxylin_blobs, [1.5, 2.0, 2.5, 3.0])
    ]
    patches = arguments.output_dir / "patches.h5"
    if not patches.is_file():
        write_patches(images, patches, patches_per_image=arguments.patches_per_image, seed=arguments.seed)
    for objective in arguments.objectives:
        folder = arguments.output_dir / f"{objective}_{arguments.sparsity_rate:g}_seed{arguments.seed}"
        if not (folder / "scae.pt").is_file():
            options = {"objective": objective, "dataset_dir": arguments.output_dir, "output_dir": folder}
            options |= {"network_def#sparsity_rate": arguments.sparsity_rate}
            options |= {name: getattr(arguments, name) for name in ("max_epochs", "seed")}
            run_command("training", "train_scae.yaml", **options, encoder=folder / "scae.pt")
        for sign in (1, -1):
            detector = DetectionMap(folder / "scae.pt", sign=sign)
            detectors.append((f"S-CAE {objective}, {'-' if sign < 0 else ''}D'", detector, [0.0, 1.5, 2.5]))

    print("| detector | F1 train | F1 val (95 % interval) | precision | recall | smoothing, distance (um) |")
    print("|---|---|---|---|---|---|")
    for name, respond, smoothing in detectors:
        if isinstance(respond, DetectionMap) and respond.sign > 0:
            seen, new = ([respond.untuned(image) for image in part] for part in (images, unseen))
            row(f"{name} at active locations, untuned", score(seen, images).f1, score(new, unseen), "0, 2.3")
        best = tuned(respond, images, smoothing, [2.3, 4.0, 5.0, 6.0])
        settings = best["smoothing_um"], best["distance_um"]
        final = score([respond(image, *settings).above(best["threshold"]) for image in unseen], unseen)
        row(name, best["f1"], final, ", ".join(f"{value:g}" for value in settings))


def row(name: str, on_train: float, result: Score, settings: str) -> None:
    """Print a row."""
    right, (low, high) = result.right.sum(), result.interval
    precision, recall = right / max(result.found.sum(), 1), right / result.real.sum()
    f1 = f"{result.f1:.3f} ({low:.3f}-{high:.3f})"
    print(f"| {name} | {on_train:.3f} | {f1} | {precision:.3f} | {recall:.3f} | {settings} |", flush=True)


if __name__ == "__main__":
    main()
