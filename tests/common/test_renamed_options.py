from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts.common.command_line import parse_command_line
from scripts.common.config_files import CONFIGS, bases_of, merged
from scripts.common.errors import RequestError
from scripts.common.renamed_options import RENAMED, new_name
from scripts.common.request import read_request

CONFIG = {"seed": 0, "standardise": {"_target_": "x", "enabled": True}, "optimizer": {"weight_decay": 1e-5}}
STACKS = [[*(str(CONFIGS / base) for base in bases_of(str(path))[:1]), str(path)] for path in CONFIGS.rglob("*.yaml")]


def refusal(*words: str) -> str:
    with pytest.raises(RequestError) as caught:
        read_request(parse_command_line(["run", "training", *words]))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("weight_decay", "optimizer#weight_decay"),
        ("standardise", "standardise#enabled"),
        ("cache_rate", None),
        ("seed", None),
        ("optimizer::weight_decay", None),
    ],
)
def test_the_new_name_is_one_that_the_config_has(name: str, new: str | None) -> None:
    assert new_name(name, ConfigParser(CONFIG)) == new


def test_every_new_name_is_in_some_config() -> None:
    configs = [merged(files) for files in STACKS]
    for old, names in RENAMED.items():
        for new in names:
            assert any(new in config and new_name(old, config) for config in configs), (old, new)


def test_a_former_name_is_answered_with_the_new_one() -> None:
    file = str(CONFIGS / "train.yaml")
    assert refusal("--config_file", file, "--weight_decay", "1e-4") == (
        "--weight_decay was renamed: use --optimizer#weight_decay"
    )
    assert refusal("--config_file", file, "--standardise", "false", "--patience", "3") == (
        "--standardise was renamed: use --standardise#enabled; --patience was renamed: use --early_stopping#patience"
    )


def test_a_former_name_in_a_file_of_ones_own(tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("learning_rate: 1e-3\nweight_decay: 1.0e-4\n", encoding="utf-8")
    files = f"['{CONFIGS / 'train.yaml'}','{over}']"
    assert refusal("--config_file", files) == f"{over}: weight_decay was renamed: write optimizer#weight_decay"
    for key in ("train", "+train"):
        over.write_text(f"{key}: {{ cropped: {{ most: 3 }} }}\n", encoding="utf-8")
        assert refusal("--config_file", files) == f"{over}: train#cropped was renamed: write train#last_augmentation"
