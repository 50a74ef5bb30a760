"""Stages run from Python."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common import stage
from scripts.common.stage import run_command, run_stage


def test_a_stage_runs_here_and_gives_its_objects(tmp_path: Path) -> None:
    config = tmp_path / "stage.yaml"
    config.write_text("value: 1\nsum: $@value + 1\nseen: []\ngoing: ['$@seen.append(@sum)']\n")
    parser = run_stage("going", [config], {"value": 3}).parser
    assert parser.get_parsed_content("seen") == [4]
    assert Path(parser["bundle_root"]).joinpath("configs", "metadata.json").is_file()


def test_a_stage_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        words.extend(command)
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(stage.subprocess, "run", run)
    assert run_command("going", [Path("a.yaml"), "b.yaml"], {"seed": 1, "model": Path("m.pt")}) == 2
    assert words == [
        sys.executable, "-m", "monai.bundle", "run", "going", "--config_file", "['a.yaml', 'b.yaml']", "--seed", "1",
        "--model", "m.pt",
    ]  # fmt: skip
