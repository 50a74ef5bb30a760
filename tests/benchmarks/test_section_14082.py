import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from section_14082 import probe, write_halves
from training.embedding_files import STEP_PX, write_embedding

from scripts.encoding.embedding_file import read_embedding
from scripts.encoding.store import Embedding

ROWS, COLUMNS = 8, 13
MIDDLE = 6
TUMOUR = np.zeros((ROWS, COLUMNS), dtype=bool)
TUMOUR[:3, [1, 2, 9, 10]] = True
"""In the first row of blocks of either half."""


@pytest.fixture
def section(tmp_path: Path) -> Embedding:
    """Patches of which those with tumour stand out."""
    found = read_embedding(write_embedding(tmp_path / "section.h5", shape_yx=(ROWS, COLUMNS)))
    features = found.features + 20 * TUMOUR.ravel()[:, None]
    return replace(found, features=features, attributes={**found.attributes, "mpp_x": 4.0, "mpp_y": 4.0})


@pytest.mark.parametrize("learn_left", [True, False])
def test_what_is_learnt_on_and_the_test_slide_are_the_two_halves(
    learn_left: bool, section: Embedding, tmp_path: Path
) -> None:
    kept = np.ones(ROWS * COLUMNS, dtype=bool)
    kept[0] = False
    write_halves(section, TUMOUR, kept, tmp_path / "label.png", tmp_path / "data", learn_left=learn_left)
    with open(tmp_path / "data" / "slides.csv", newline="", encoding="utf-8") as file:
        rows = {row["slide"].removesuffix(".tif"): row for row in csv.DictReader(file)}
    places = {name: read_embedding(tmp_path / "data" / f"{name}.h5").coords_xy_px // STEP_PX for name in rows}
    assert sorted(map(tuple, np.concatenate(list(places.values())))) == sorted(
        (column, row) for row in range(ROWS) for column in range(COLUMNS) if row + column
    )
    for name, places_xy in places.items():
        is_test = name == "half"
        assert set(places_xy[:, 0] < MIDDLE) == {learn_left != is_test}
        assert int(rows[name]["label"]) == TUMOUR[places_xy[:, 1], places_xy[:, 0]].any()
        assert (rows[name]["split"] == "test") == is_test


@pytest.mark.parametrize("learn_left", [True, False])
def test_the_probe_is_scored_on_the_other_half(learn_left: bool, section: Embedding) -> None:
    """There the labels of half of the tumour are turned round; what was learnt on has none wrong."""
    turned = TUMOUR.copy()
    turned[:3, 9 if learn_left else 1] = False
    auc, dice = probe(section, turned, np.ones(ROWS * COLUMNS, dtype=bool), learn_left=learn_left)
    assert 0.9 < auc < 1 and dice == pytest.approx(2 / 3)
    assert probe(section, TUMOUR, np.ones(ROWS * COLUMNS, dtype=bool), learn_left=learn_left) == (1, 1)
