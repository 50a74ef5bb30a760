import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from inference.heat_map_views import view_of
from PIL import Image

from scripts.dsnet.network import DSNet
from scripts.encoding.job import ManifestRow
from scripts.encoding.store import Embedding
from scripts.encoding.tissue_record import TissueRecord
from scripts.evaluation.predictions import Prediction
from scripts.inference.record import SlideOrigin, write_run, write_scores
from scripts.training.model_card import ModelCard

GREEN, PINK = (20, 140, 60), (200, 120, 170)
GRID_YX = np.array([[0, 0], [0, 1], [1, 1]], dtype=np.int32)


def scores_of(
    folder: Path,
    thumbnail: np.ndarray,
    tissue: TissueRecord | None,
    *,
    mpp_xy: tuple[float, float] | None = None,
    **attributes: Any,
) -> dict[str, Any]:
    embedding = Embedding(
        features=np.ones((3, 2), dtype=np.float32),
        coords_xy_px=GRID_YX[:, ::-1].astype(np.int64) * 100 + np.array([30, 70]),
        grid_yx=GRID_YX,
        shape_yx=(2, 2),
        patch_px_level0=100,
        thumbnail=None,
        tissue=tissue,
        attributes=attributes,
    )
    view = view_of(np.zeros((2, 2), dtype=np.float32), thumbnail=thumbnail, mpp_xy=mpp_xy)
    write_scores(
        folder / "case",
        view,
        item={"slide": str(folder / "scans" / "case.tif")},
        prediction=Prediction("case", None, (0.5, 0.5), 0.7, (0.25, 0.75)),
        embedding=embedding,
    )
    scores: dict[str, Any] = json.loads((folder / "case" / "scores.json").read_text())
    return scores


def painted(*cells: tuple[int, int, tuple[int, int, int]]) -> np.ndarray:
    thumbnail = np.full((4, 4, 3), 255, dtype=np.uint8)
    for row, column, colour in cells:
        thumbnail[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = colour
    return thumbnail


def test_scores_of_a_slide(tmp_path: Path) -> None:
    grid = np.array([[0.01, 0.01, 0.2], [0.6, 0.6, 0.6], [0.6, 0.3, 0.9]], dtype=np.float32)
    thumbnail = painted((0, 0, PINK), (0, 1, GREEN), (1, 0, GREEN), (1, 1, PINK))
    scores = scores_of(
        tmp_path,
        thumbnail,
        TissueRecord(grid, 1, "rle", 0.5, 0.05),
        mpp_xy=(0.5, 0.25),
        patch_um=50.0,
        patches_left_out=4,
    )
    assert scores["slide"] == "scans/case.tif"
    assert scores["class_shown"] == "tumour" and not {"patient", "seen_in"} & scores.keys(), "inference.json has them"
    assert (scores["stream_score"], scores["channel_scores"]) == (0.7, [0.25, 0.75])
    assert scores["grid"] == {"shape_yx": [2, 2], "origin_xy_px": [30, 70], "patch_px_level0": 100}
    tissue = scores["tissue"]
    assert tissue["area_mm2"] == 3 * 100 * 0.5 * 100 * 0.25 / 1e6 and tissue["box_mm2"] == tissue["area_mm2"] * 4 / 3
    assert (tissue["glass"], tissue["ink_or_debris"], tissue["specks"], tissue["left_out"]) == (2, 2, 1, 4)
    assert tissue["pen"] == 1
    assert tissue["pen_coloured"] == 1, "the green cell at row 1, column 0 was not observed"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "case" / "thumbnail.png")), thumbnail)


def test_scores_of_a_file_of_another_tool(tmp_path: Path) -> None:
    """No resolution, no tissue record, no thumbnail (it is white then): said to be unknown, not nought."""
    scores = scores_of(tmp_path, painted(), None)
    tissue = scores["tissue"]
    assert (tissue["patches"], tissue["area_mm2"], tissue["left_out"], tissue["pen_coloured"]) == (3, None, None, None)
    assert "glass" not in tissue and scores["resolution"]["mpp_x"] is None
    assert not (tmp_path / "case" / "thumbnail.png").exists()


def test_run_keeps_the_card_but_no_fingerprint(tmp_path: Path) -> None:
    network = DSNet(embedding_channels=6).arguments
    card = ModelCard(class_names=("a", "b"), threshold=0.4, threshold_from="val", encoder=None, network=network)
    write_run(
        tmp_path / "inference.json",
        card=replace(card, seen={"train": "0123456789abcdef"}),
        threshold=0.6,
        settings={"slides": Path("x"), "seed": 1, "threshold": None},
        slides={"case": SlideOrigin("p1", "val"), "other": SlideOrigin(None, None)},
        mapped={"case"},
        not_predicted=[ManifestRow("third", "third.tif", "failed", error="damaged")],
    )
    text = (tmp_path / "inference.json").read_text()
    run = json.loads(text)
    assert "0123456789abcdef" not in text and ModelCard.from_json("inference.json", run["card"]) == card
    assert run["threshold"] == 0.6 and run["settings"] == {"slides": "x", "seed": 1, "threshold": None}
    assert run["slides"] == {
        "case": {"patient": "p1", "seen_in": "val", "mapped": True},
        "other": {"patient": None, "seen_in": None, "mapped": False},
    }
    assert run["not_predicted"] == {"third": {"status": "failed", "error": "damaged"}}
    assert set(run["versions"]) == {"bundle", "monai", "torch"}
