"""MONAI's client for federated learning runs train.yaml; the program of the page does two rounds between two sites."""

import json
from pathlib import Path

import pytest
import torch
from docs_blocks import REPO, blocks_of
from monai.utils import set_determinism
from training.embedding_files import write_dataset, write_table

from scripts.training.card import load_model, network_from_card, read_card

PAGE = REPO / "docs" / "how-to" / "federated.md"


@pytest.mark.filterwarnings("ignore:executing the bundle config")
def test_the_program_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("hospital_a", "hospital_b"):
        folder = write_dataset(tmp_path / name / "embeddings", gap=1.0)
        rows = [line.split(",") for line in (folder / "slides.csv").read_text().splitlines()[1:]]
        labels = {"0": "normal", "1": "tumor"}
        write_table(
            folder, [{"slide": f"{name}_{s}", "label": labels[x], "split": p, "patient": i} for s, x, p, i in rows]
        )
        for path in list(folder.glob("*.h5")):
            path.rename(folder / f"{name}_{path.name}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").symlink_to(REPO / "bundle")
    (program,) = [block.text for block in blocks_of(PAGE) if block.language == "python"]
    found: dict[str, object] = {}
    try:
        exec(program, found)
    finally:
        set_determinism(seed=None)
    assert capsys.readouterr().out.count("validation AUC") == 2
    model = tmp_path / "hospital_a" / "federated" / "model.pt"
    card = read_card(model)
    assert list(card.class_names) == ["normal", "tumor"]
    network = load_model(network_from_card(card), model, card)
    weights = found["weights"]
    assert isinstance(weights, dict)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    written = json.loads(model.with_suffix(".json").read_text())
    assert (written["validation"]["slides"], written["training"]["epochs"]) == (4, 2)
