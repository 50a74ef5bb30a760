from pathlib import Path

import pytest

from scripts.common.config_files import bases_of
from scripts.common.config_help import describe

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
CONFIG = """# What it does.
#   python -m monai.bundle run training
imports:
  - $import torch

max_epochs: 200 # paper, section IV
name: "a # b" # a quoted value
device: "$torch.device('cpu')"
fold: null

options:
  _target_: scripts.common.options.check_options
seed_of: 3 # no option
optimizer:
  _target_: torch.optim.AdamW
  weight_decay: 1.0e-5 # paper
  betas: [0.9, 0.99] # of the means
  keys: [v, t] # what the config is made of
  fused: true
  lr: "@max_epochs"
decay: { _target_: x, gamma: 0.2, step_size: 30 } # epochs
handlers:
  - { _target_: y, rate: 1 } # no name that one would type
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path)


def test_options_stand_with_default_and_comment(config: str) -> None:
    assert describe([config]).splitlines() == [
        "What it does.",
        "  python -m monai.bundle run training",
        "",
        "Options, with their defaults:",
        "",
        "  --max_epochs 200            paper, section IV [a whole number, 1 or more]",
        "  --name a # b                a quoted value",
        "  --device $torch.device('cpu')",
        "                              [cpu, cuda or cuda:N]",
        "  --fold null",
        "",
        "Values of components, set by their ids:",
        "",
        "  --optimizer#weight_decay 1.0e-5",
        "                              paper [a number, 0 or more]",
        "  --optimizer#betas [0.9, 0.99]",
        "                              of the means",
        "  --decay#gamma 0.2           [a number over 0 and at most 1]",
        "  --decay#step_size 30        epochs [a whole number, 1 or more]",
    ]


def test_an_overlay_replaces_defaults_and_keeps_comments(config: str, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "# More.\nlies_on: train.yaml\nmax_epochs: 3\nfold: 1 # of five\n+network: {size: 4}\n", encoding="utf-8"
    )
    text = describe([config, str(overlay)])
    assert "More." in text
    assert "  --max_epochs 3              paper, section IV [" in text
    assert "  --fold 1                    of five" in text
    assert "#size" not in text and "lies_on" not in text


def test_an_overlay_sets_values_of_components(config: str, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "# More.\n+optimizer: { weight_decay: 0.1 }\ndecay: { _target_: z, rate: 2 } # another\n", encoding="utf-8"
    )
    text = describe([config, str(overlay)])
    assert "  --optimizer#weight_decay 0.1\n                              paper [" in text
    assert "  --decay#rate 2              another" in text and "step_size" not in text
    overlay.write_text("# More.\ndecay: $@optimizer\n", encoding="utf-8")
    assert "step_size" not in describe([config, str(overlay)]), "what is computed has no parts to set"


@pytest.mark.parametrize("path", sorted((BUNDLE / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_option_of_the_bundle_is_explained(path: Path) -> None:
    if bases_of(str(path)):
        pytest.skip("an overlay")
    rows = describe([str(path)]).partition("Options, with their defaults:")[2].strip("\n").splitlines()
    options = [row for row in rows if row.startswith("  --")]
    assert options
    assert not [row for row in options if "_target_" in row or "@options" in row], "no options"
    for row, following in zip(rows, [*rows[1:], ""], strict=True):
        if row.startswith("  --"):
            assert (len(row) > 30 and row[29] == " ") or following.startswith(" " * 30), f"no comment: {row}"
