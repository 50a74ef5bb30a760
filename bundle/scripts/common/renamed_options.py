"""Options of before that stand in the component that they belong to; whoever gives the former name is told the new one.

For one release: the table is emptied with the next.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from .config_files import merged, read_config
from .errors import RequestError

RENAMED: dict[str, tuple[str, ...]] = {
    # trainings
    "accumulate": ("train#trainer#accumulation_steps",),
    "allow_missing": ("table#allow_missing",),
    "average": ("evaluated#share",),
    "balance": ("loss#balance",),
    "cache_rate": ("train#dataset#cache_rate",),
    "calibrate": ("write_card#calibrate",),
    "channel_range": ("table#channel_range",),
    "checkpointing": ("checkpointing#enabled",),
    "intended_use": ("write_card#intended_use",),
    "log_dir": ("outputs#folder",),
    "loss_def#balance": ("loss#balance",),
    "mask_weight": ("mask_loss#weight",),
    "models_dir": ("model", "encoder"),
    "patience": ("early_stopping#patience",),
    "seed_cold": ("targets#cold",),
    "seed_hot": ("targets#hot",),
    "sparsity_rate": ("network_def#sparsity_rate",),
    "standardise": ("standardise#enabled",),
    "step_epochs": ("decay#step_size",),
    "strategy": ("network_def#strategy",),
    "thumbnail_levels": ("table#levels",),
    "warmup_epochs": ("warmup#total_iters",),
    "weight_decay": ("optimizer#weight_decay",),
}
"""New names by the former one: of those the one that a config has."""


def new_name(name: str, config: ConfigParser) -> str | None:
    """Return what an option is called now in a config; None where it still has the name, or never had it."""
    is_value = name in config and not isinstance(config[name], dict)
    return None if is_value else next((new for new in RENAMED.get(_spelled(name), ()) if new in config), None)


def refuse_renamed(own: Mapping[str, Any], files: Sequence[str]) -> None:
    """Refuse options, and entries of config files of one's own, that have another name now.

    Args:
        own: options of the command line by id.
        files: config files, an overlay after what it lies on.

    Raises:
        RequestError: names the new ones.
    """
    found = [*_in_files(files), *_on_command_line(own, merged(files))]
    if found:
        raise RequestError("; ".join(found))


def _on_command_line(own: Mapping[str, Any], config: ConfigParser) -> Iterator[str]:
    for name in own:
        new = new_name(name, config)
        if new is not None:
            yield f"--{_spelled(name)} was renamed: use --{new}"


def _in_files(files: Sequence[str]) -> Iterator[str]:
    for index, file in enumerate(files):
        for key, value in read_config(file).items() if index else ():
            new = None if isinstance(value, dict) else new_name(key, merged(files[:index]))
            if new is not None:
                yield f"{file}: {key} was renamed: write {new}"


def _spelled(name: str) -> str:
    return name.replace(ID_SEP_KEY, "#")
