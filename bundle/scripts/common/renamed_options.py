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
    # reading and encoding
    "cam": ("heat_map#cam",),
    "cam_layer": ("heat_map#layer",),
    "decode_device": ("reading#device",),
    "decode_timeout": ("reading#timeout_s",),
    "drop_pen": ("settings#drop_pen", "draw#drop_pen"),
    "engine": ("job#engine",),
    "map": ("heat_map#source",),
    "patch_um": ("settings#patch_um", "draw#patch_um", "compare_masks#patch_um"),
    "patches_per_slide": ("draw#patches_per_slide",),
    "precision": ("settings#precision",),
    "read_level": ("settings#read_level", "draw#read_level"),
    "rich_share": ("draw#rich_share",),
    "scheduler": ("cluster#address",),
    "slides_per_class": ("draw#slides_per_class",),
    "split_patches": ("cluster#split_patches",),
    "splits": ("draw#splits",),
    "target_class": ("heat_map_writer#target_class",),
    "threads": ("cluster#threads",),
    "tissue_method": ("settings#tissue_method",),
    "unreadable_tiles": ("reading#unreadable_tiles",),
    "workers": ("cluster#workers",),
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
    "sparsity_rate": ("network_def#sparsity_rate",),
    "standardise": ("standardise#enabled",),
    "step_epochs": ("decay#step_size",),
    "strategy": ("network_def#strategy", "encoder_def#strategy"),
    "thumbnail_levels": ("table#levels", "settings#thumbnail_levels"),
    "train#augmented": ("train#augmented_keys",),
    "train#cropped": ("train#last_augmentation",),
    "train#dropped": ("train#dropped_keys",),
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
        for name in _names_in(read_config(file)) if index else ():
            new = new_name(name, merged(files[:index]))
            if new is not None:
                yield f"{file}: {name} was renamed: write {new}"


def _names_in(config: Mapping[str, Any]) -> Iterator[str]:
    """The entries of a config file that could have a former name: values at the top, and what is in its sections."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from (f"{key.removeprefix('+')}#{name}" for name in value)
        else:
            yield key


def _spelled(name: str) -> str:
    return name.replace(ID_SEP_KEY, "#")
