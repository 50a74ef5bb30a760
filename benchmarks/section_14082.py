"""Localisation against a pathologist's labels on one real section: learnt on one half of it, scored on the other, and the other way round.

    python benchmarks/section_14082.py --data ../shared/data --output_dir section

The section is breast tissue at 4 um/px with one tumour label per square of 200 um (../shared/data/DATA.md). At 64 um a patch would have
16 px: no nucleus is left, and no encoder here was made for that. So a patch is one labelled square, 50 px, and V is what the published NIC
multitask encoder (made for 0.5 um/px) says of it: a bank of colour and texture filters. One half is cut into blocks of 4 x 4 patches, the
"slides", every fourth of either label for validation; the other half is the test slide. Learners: a linear probe on single patches (labels
of patches); the segmentation with those labels as masks; the paper's and the recommended DSNet from the label of whole blocks alone, and
their heat maps. One section of one patient: a test of the tools on real labels, no figure of merit of the method.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from stages import run_command

from scripts.common.files import write_csv
from scripts.encoding.embedding_file import read_embedding
from scripts.encoding.store import FORMAT, Embedding
from scripts.encoding.writer import append_rows, embedding_writer, write_attributes
from scripts.slides.lesion_mask import lesion_cells

PATCH_UM = 200
BLOCK = 4  # patches along a side
HALVES = ("left", "right")
TRAINING = {
    "learning_rate": 1e-3,
    "decay#step_size": 30,
    "warmup#total_iters": 2,
    "seed": 0,
    "device": "cpu",
    "graph": False,
}


def cut(section: Embedding, kept: np.ndarray, box: tuple[int, int, int, int], path: Path) -> bool:
    """Write the kept patches of a box (top, left, rows, columns) as an embedding of its own; False where there is none."""
    top, left, rows, columns = box
    y, x = section.grid_yx.T
    inside = kept & (y >= top) & (y < top + rows) & (x >= left) & (x < left + columns)
    if not inside.any():
        return False
    assert section.thumbnail is not None
    with embedding_writer(path, patches=int(inside.sum()), channels=section.features.shape[1]) as file:
        grid_yx = section.grid_yx[inside] - np.array([top, left], dtype=np.int32)
        append_rows(file, features=section.features[inside], grid=grid_yx, coords=section.coords_xy_px[inside])
        file["coords"].attrs["patch_size_level0"] = section.patch_px_level0
        file["thumbnail"] = section.thumbnail[2 * top : 2 * (top + rows), 2 * left : 2 * (left + columns)]
        attributes = {name: section.attributes[name] for name in ("encoder", "mpp_x", "mpp_y")}
        write_attributes(file, {"format": FORMAT, "grid_shape": np.array([rows, columns]), **attributes})
    return True


def write_halves(
    section: Embedding, tumour: np.ndarray, kept: np.ndarray, label: Path, folder: Path, *, learn_left: bool
) -> None:
    """Write the blocks of one half and the whole of the other as a dataset, with masks."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = section.shape_yx
    middle = int(np.median(section.grid_yx[kept, 1]))
    learn, test = ((0, middle), (middle, columns)) if learn_left else ((middle, columns), (0, middle))
    table: list[dict[str, object]] = []
    counts = [0, 0]
    for top in range(0, rows, BLOCK):
        for left in range(learn[0], learn[1], BLOCK):
            box = (top, left, min(BLOCK, rows - top), min(BLOCK, learn[1] - left))
            name = f"block_{top:02d}_{left:02d}"
            if cut(section, kept, box, folder / f"{name}.h5"):
                positive = int(tumour[top : top + box[2], left : left + box[3]].any())
                split = "val" if counts[positive] % 4 == 3 else "train"
                counts[positive] += 1
                table.append({"slide": f"{name}.tif", "label": positive, "split": split, "mask": label})
    cut(section, kept, (0, test[0], rows, test[1] - test[0]), folder / "half.h5")
    table.append({"slide": "half.tif", "label": 1, "split": "test", "mask": label})
    write_csv(folder / "slides.csv", ["slide", "label", "split", "mask"], table)


def probe(section: Embedding, tumour: np.ndarray, kept: np.ndarray, *, learn_left: bool) -> tuple[float, float]:
    """AUC and Dice on the other half of a linear probe of single patches."""
    y = tumour[section.grid_yx[:, 0], section.grid_yx[:, 1]]
    left = section.grid_yx[:, 1] < int(np.median(section.grid_yx[kept, 1]))
    learn, test = kept & (left == learn_left), kept & (left != learn_left)
    scaler = StandardScaler().fit(section.features[learn])
    fitted = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(section.features[learn]), y[learn])
    score = fitted.decision_function(scaler.transform(section.features[test]))
    called = score >= 0
    return float(roc_auc_score(y[test], score)), float(2 * (called & y[test]).sum() / (called.sum() + y[test].sum()))


def main() -> None:
    """Learn, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with slides/14082.tif and weights/")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--max_epochs", type=int, default=40)
    parser.add_argument("--learn_on", nargs="+", choices=HALVES, default=HALVES, help="halves to learn on (both)")
    arguments = parser.parse_args()
    data, output = arguments.data.resolve(), arguments.output_dir.resolve()
    slide, label = data / "slides" / "14082.tif", data / "slides" / "14082_label.png"
    training = {**TRAINING, "max_epochs": arguments.max_epochs}
    encoding = {
        "encoder": data / "weights" / "nic_encoder_multitask-4.h5",
        "settings#patch_um": PATCH_UM,
        "device": "cpu",
    }
    run_command("encoding", "encode.yaml", "encode_nic.yaml", slides=slide, output_dir=output / "section", **encoding)
    section = read_embedding(output / "section" / "14082.h5")
    tumour, labelled = (lesion_cells(label, section.grid, slide=slide, lesion_from=value) for value in (2, 1))
    kept = labelled[section.grid_yx[:, 0], section.grid_yx[:, 1]]
    print(f"{kept.sum()} labelled patches observed of {labelled.sum()}, {(tumour & labelled).sum()} with tumour\n")
    print("| learnt on | by | cell AUC | Dice | hottest cell is tumour | tumour's share |\n|---|---|---|---|---|---|")
    for side in arguments.learn_on:
        learn_left = side == "left"
        dataset = output / side / "data"
        write_halves(section, tumour, kept, label, dataset, learn_left=learn_left)
        auc, dice = probe(section, tumour, kept, learn_left=learn_left)
        print(f"| {side} | linear probe | {auc:.3f} | {dice:.3f} | | |")
        learners: dict[str, tuple[list[str], dict[str, object]]] = {
            "paper": ([], {}),
            "recommended": (["recommended.yaml"], {}),
            "masks": (["segment_train.yaml"], {"lesion_from": 2, "mask_px": 1}),
        }
        for name, (overlays, options) in learners.items():
            files = ["train.yaml", *overlays]
            common = {"dataset_dir": dataset, "model": output / side / f"{name}.pt"}
            run_command("training", *files, output_dir=output / side / f"log_{name}", **common, **options, **training)
            maps, scored = output / side / f"maps_{name}", output / side / f"score_{name}"
            run_command("inference", "inference.yaml", split="test", output_dir=maps, device="cpu", **common)
            kind = "cam" if name == "paper" else "probability"
            run_command(
                "localising", "localise.yaml", predictions_dir=maps, dataset_dir=dataset, output_dir=scored, split="test",
                map=kind, lesion_from=2, mask_px=1,
            )  # fmt: skip
            report = json.loads((scored / "localisation.json").read_text(encoding="utf-8"))
            hit = report["hit_rate_all_positives"]
            print(
                f"| {side} | {name} | {report['cell_auc']['value']:.3f} | {report['dice']['value']:.3f} | "
                f"{'yes' if hit['value'] else 'no'} | {hit['chance']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
