"""Options that are paths: as they were typed, and never evaluated."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from monai.bundle.utils import ID_SEP_KEY

from scripts.common.config_help import read_options
from scripts.common.errors import RequestError
from scripts.common.options import given_options
from scripts.common.path_options import is_path, refuse_evaluated, typed_paths

CONFIGS = Path(__file__).resolve().parents[2] / "bundle" / "configs"
STAGES = [path for path in sorted(CONFIGS.glob("*.yaml")) if "check_options" in path.read_text(encoding="utf-8")]
NO_PATHS = {
    "accumulate",
    "average", "allow_missing", "balance", "batch_size", "cache_rate", "calibrate", "cam", "cam_layer", "cells", "channel_range",
    "checkpointing", "classes", "cohort", "columns", "decode_device", "decode_timeout", "device", "drop_pen", "dry_run", "engine",
    "error_margin", "graph", "heat_maps", "high", "intended_use", "itc", "keep_test", "labels", "learning_rate", "lesion_from",
    "lesion_share", "low", "lowest", "map", "mask_px", "max_epochs", "max_steps", "measured_patches", "more", "mpp", "nms_cells",
    "normal_086", "nuclei_per_mm2", "num_workers", "objective", "overwrite", "patch_um", "patches", "patches_per_slide",
    "patience", "patient_pattern", "positive", "precision", "read_level", "replace", "resamples", "resume", "rich_share", "sampling",
    "scheduler",
    "section", "seed", "seed_cold", "seed_hot", "shard", "slides_per_class", "sparsity_rate", "split", "split_patches", "splits",
    "standardise", "step_epochs", "strategy", "target_class", "test", "test_049", "test_114", "test_share", "threads", "threshold",
    "thumbnail_levels", "tissue_method", "tolerance", "train", "training_steps", "unreadable_tiles", "val", "val_interval", "val_share",
    "warmup_epochs", "weight_decay", "workers",
}  # fmt: skip
"""Every other option of a stage; whoever adds an option says here or in `PATH_OPTIONS` what it is."""


def own(*words: str) -> dict[str, Any]:
    given = given_options(["run", "x", "--config_file", "c.yaml", *words])
    return {name: value for name, value in given.items() if name not in ("run_id", "config_file")}


def typed(*words: str) -> dict[str, str | None]:
    return typed_paths(own(*words), ["run", "x", "--config_file", "c.yaml", *words])


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_option_of_every_config_is_known_as_a_path_or_not(path: Path) -> None:
    names = {name for name in read_options([str(path)]) if "#" not in name}
    assert {name for name in names if not is_path(name)} <= NO_PATHS
    assert not {name for name in NO_PATHS if is_path(name)}


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_every_stage_checks_its_options_before_anything_else(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    runs = [name for name, value in config.items() if isinstance(value, list) and "$@options" in value]
    assert runs and all(config[name][0] == "$@options" for name in runs)
    paths = [name for name in read_options([str(path)]) if is_path(name)]
    before = [str(line) for line in config.get("initialize", ())]
    assert not [name for name in paths for line in before if f"@{name}" in line]


@pytest.mark.parametrize("text", ["$open('x', 'w')", "@root", "%other.yaml", " $x"])
@pytest.mark.parametrize(
    "name",
    [
        "slides",
        "output_dir",
        "models_dir",
        "log_dir",
        "model",
        "bundle_root",
        f"manifest{ID_SEP_KEY}slides",
        "folds",
        f"saver{ID_SEP_KEY}folder",
    ],
)
def test_a_path_that_would_be_evaluated_is_refused(name: str, text: str) -> None:
    with pytest.raises(RequestError, match=r"would be evaluated; expected a path: write \./"):
        refuse_evaluated({"device": "$torch.device('cpu')", name: text})
    with pytest.raises(RequestError, match=f"--{name.replace(ID_SEP_KEY, '#')} "):
        refuse_evaluated({name: ["a.csv", text]})


def test_paths_with_these_marks_inside_and_other_expressions_pass() -> None:
    refuse_evaluated(
        {"slides": "a$b@c%d.tif", "output_dir": "./$x", "device": "$torch.device('cuda:1')", "max_epochs": "$2 * 3"}
    )


@pytest.mark.parametrize(
    "text", ["2024", "007", "1e5", "1_000", "0x10", "2024.50", "1.10", "True", "true", "a,b", "[1]", "{a}", "a b"]
)
def test_a_path_is_what_was_typed(text: str) -> None:
    assert typed("--slides", text) == {"slides": text} == typed(f"--slides={text}")
    assert typed("--manifest#output_dir", text) == {f"manifest{ID_SEP_KEY}output_dir": text}


def test_null_is_no_path_and_other_options_are_left_alone() -> None:
    assert typed("--slides", "null", "--model", "None", "--max_epochs", "3", "--folds", "5") == {
        "slides": None,
        "model": None,
    }


def test_an_option_without_a_value_is_refused() -> None:
    with pytest.raises(RequestError, match="--slides: no value"):
        typed("--slides", "--max_epochs", "3")


def test_a_number_in_a_file_of_arguments_is_a_path(tmp_path: Path) -> None:
    assert typed_paths({"slides": 2024}, ["run", "--args_file", "a.yaml"]) == {"slides": "2024"}
