from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.inferers import SimpleInferer
from tiny_flow import ON_CPU, run_config
from torch import Tensor, nn
from training.embedding_files import write_dataset

from scripts.training import training_plan


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


@pytest.mark.parametrize("amp", [True, False])
def test_steps_are_timed_in_the_precision_of_the_training(monkeypatch: pytest.MonkeyPatch, amp: bool) -> None:
    """Autocast of the CPU stands in for that of CUDA."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device, **given: autocast({"cuda": "cpu"}[device], **given))
    seen = []

    def loss(found: Tensor, target: Tensor) -> Tensor:
        seen.append(found.dtype)
        return (found - target).square().mean()

    trainer: Any = SimpleNamespace(
        data_loader=SimpleNamespace(batch_size=1, dataset=[torch.ones(3)], collate_fn=torch.stack),
        state=SimpleNamespace(device=torch.device("cpu")),
        prepare_batch=lambda batch, device, non_blocking: (batch, batch[:, :1]),
        non_blocking=False,
        network=nn.Linear(3, 1),
        inferer=SimpleInferer(),
        loss_function=loss,
        amp=amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )
    training_plan._step_s(trainer)
    assert set(seen) == {torch.bfloat16 if amp else torch.float32}
