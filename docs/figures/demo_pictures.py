"""Pictures of the demo's slides for the documentation: make demo, then python docs/figures/demo_pictures.py [--demo demo].

Writes to docs/images: the first rows of the contact sheet, and one slide as T, O, V and heat map.
"""

import argparse
from pathlib import Path

import h5py
import matplotlib
import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

IMAGES = Path(__file__).resolve().parents[1] / "images"
SLIDE = "test_001"
ROWS_PX = 464  # four slides of the contact sheet


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo"))
    demo = parser.parse_args().demo
    with Image.open(demo / "patches" / "contact_sheet.png") as sheet:
        sheet.convert("RGB").crop((0, 0, sheet.width, ROWS_PX)).save(IMAGES / "demo_contact_sheet.jpg", quality=80)

    with h5py.File(demo / "embeddings" / f"{SLIDE}.h5") as file:
        thumbnail, grid_yx = file["thumbnail"][:, :, :3], file["grid"][:]
        observed = np.zeros(file.attrs["grid_shape"], dtype=bool)
        observed[tuple(grid_yx.T)] = True
        v = np.ones((*observed.shape, 3))
        v[tuple(grid_yx.T)] = principal_components(file["features"][:])
    heat = nibabel.load(demo / "predictions" / SLIDE / "cam.nii.gz").get_fdata()[:, :, 0].T
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
    pictures = [thumbnail, observed, v, np.where(observed, heat, np.nan)]
    titles = ["T, finest of three", "O", "V, three main components", "heat map"]
    for axis, picture, title in zip(axes, pictures, titles, strict=True):
        axis.imshow(picture, cmap="viridis" if title == "heat map" else "gray")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    figure.savefig(IMAGES / "demo_matrices.png", dpi=90)


def principal_components(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The three main components of (N, C) vectors as colours, (N, 3) from 0 to 1."""
    centred = features - features.mean(axis=0)
    components = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T
    low, high = np.percentile(components, [2, 98], axis=0)
    return np.clip((components - low) / (high - low), 0, 1).astype(np.float64)


if __name__ == "__main__":
    main()
