from pathlib import Path

import pytest
import torch
from tiny_flow import ON_CPU, run_config
from training.embedding_files import write_dataset


def test_the_plan_counts_slides_steps_and_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path / "data")
    options = {"dataset_dir": dataset, "output_dir": tmp_path / "log", "model": tmp_path / "model.pt", **ON_CPU}
    options |= {"max_epochs": 3, "batch_size": 2}
    run_config("train.yaml", run_id="training", dry_run=True, **options)
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    assert not (tmp_path / "log").exists() and not (tmp_path / "model.pt").exists()

    stage = run_config("train.yaml", run_id="training", **options)
    trainer = stage.parser.get_parsed_content("train#trainer")
    items = trainer.state.epoch_length
    assert told["steps"] == f"{trainer.state.max_epochs} epochs of {items} with 2 slides each"
    parameters = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
    assert told["network"] == f"{parameters:,} trainable parameters on cpu"
    slides = len(stage.parser.get_parsed_content("train#dataset"))
    assert told["train"].startswith(f"{slides} slides (") and "class" in told["train"]
    assert "timed now" in told["time"]
    assert torch.load(tmp_path / "model.pt", weights_only=True)
