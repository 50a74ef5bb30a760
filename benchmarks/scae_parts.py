"""What the parts of a trained S-CAE know of the lesion: a linear probe on each, trained with the lesion masks.

    python benchmarks/scae_parts.py --encoders paper=scae.pt extended=scae_ext.pt --masks mosaics/masks \
        --train patches/patches.h5 --test patches_test/patches.h5

The patches are those of sample.yaml (``--splits "['test']"`` for the second file); the masks are used here and nowhere else.
Prints the AUC over the test patches, for each part pooled over its locations:

* trunk: the trunk's 128 channels;
* gates: sigmoid of the 96 foreground channels over all locations, as if there were no mask;
* F: the same over the active locations, the foreground part of v; B: the background part; v: both;
* mask: the share of active locations, and mean, deviation and maximum of D', four numbers.
"""

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from probe import patch_auc

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))

from scripts.encoding.encoders import SCAEEncoder
from scripts.scae.scae_network import FOREGROUND_CHANNELS, SCAE

Features = NDArray[np.float32]


def labelled(patches: Path, masks: Path, *, patch_px: int, most: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read patches and whether they lie in the lesion, at most ``most`` of either kind, at even steps."""
    with h5py.File(patches) as file:
        slide_ids = file["slide_id"].asstr()[:]
        cells_xy = file["coords"][:] // patch_px  # the mask has one pixel per patch
        lesions = {name: np.asarray(Image.open(masks / f"{name}.png")) > 0 for name in np.unique(slide_ids)}
        lesion = np.array([lesions[name][y, x] for name, (x, y) in zip(slide_ids, cells_xy, strict=True)])
        kinds = [np.flatnonzero(lesion == kind) for kind in (False, True)]
        chosen = np.sort(np.concatenate([kind[:: max(1, len(kind) // most)][:most] for kind in kinds]))
        return file["patches"][:][chosen], lesion[chosen]


@torch.inference_mode()
def parts_of(scae: SCAE, patches: NDArray[np.uint8]) -> dict[str, Features]:
    """Return every part's features, (N, channels)."""
    found: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(patches), 64):
        images = torch.from_numpy(patches[start : start + 64]).permute(0, 3, 1, 2) / 255
        images = images.contiguous(memory_format=torch.channels_last)
        trunk, v = scae.trunk(images), scae.encode(images)
        detection = scae.detect.detection(trunk).flatten(1)
        active = scae.detect.hard(trunk).flatten(1).mean(1)
        parts = {
            "trunk": trunk.mean(dim=(2, 3)),
            "gates": torch.sigmoid(scae.to_foreground(trunk)).mean(dim=(2, 3)),
            "mask": torch.stack([active, detection.mean(1), detection.std(1), detection.amax(1)], dim=1),
            "F": v[:, :FOREGROUND_CHANNELS],
            "B": v[:, FOREGROUND_CHANNELS:],
            "v": v,
        }
        for name, values in parts.items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def main() -> None:
    """Probe and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", required=True, help="name=weights of S-CAEs")
    parser.add_argument("--train", type=Path, required=True, help="patches.h5 of training slides")
    parser.add_argument("--test", type=Path, required=True, help="patches.h5 of other slides")
    parser.add_argument("--masks", type=Path, required=True, help="<slide_id>.png, one pixel per patch, 255 = lesion")
    parser.add_argument("--patch_px", type=int, default=128, help="side of a patch in level-0 pixels")
    parser.add_argument("--most", type=int, default=2000, help="patches of a kind and file")
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = (
        labelled(path, arguments.masks, patch_px=arguments.patch_px, most=arguments.most)
        for path in (arguments.train, arguments.test)
    )
    print(f"{len(y)} patches train the probe ({y.sum()} in the lesion), {len(y_test)} test it ({y_test.sum()})")
    rows: dict[str, list[str]] = {}
    for encoder in arguments.encoders:
        scae = SCAEEncoder(encoder.partition("=")[2]).scae
        seen, new = parts_of(scae, x), parts_of(scae, x_test)
        for name in seen:
            auc = patch_auc(seen[name], y, new[name], y_test)
            rows.setdefault(f"| {name} | {seen[name].shape[1]} |", []).append(f" {auc:.3f} |")
    names = [encoder.partition("=")[0] for encoder in arguments.encoders]
    print(f"| part | channels | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for start, cells in rows.items():
        print(start + "".join(cells))


if __name__ == "__main__":
    main()
