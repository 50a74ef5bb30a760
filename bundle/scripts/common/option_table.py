"""The options of every stage with their types: what is checked, how a text is read and what ``--help`` says follow from this table.

Defaults and comments stand in the configs, most of them in the component that they belong to: ``weight_decay`` is set as
``--optimizer#weight_decay``. An option is null where its config, or what lies under it, says null.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import RequestError
from .option_structures import Either, Items, TextMapping, mapping
from .option_types import (
    Device,
    Number,
    OptionType,
    PathText,
    Shard,
    Text,
    Whole,
    Word,
    YesNo,
    is_null,
    read_as,
)
from .option_words import (
    BackendChoice,
    Cam,
    CamelyonLabels,
    DropOrKeep,
    Engine,
    Fusion,
    Head,
    IsolatedCells,
    LevelRule,
    MapSource,
    MapValues,
    Normal086,
    Objective,
    PatchNetwork,
    PrecisionChoice,
    Section,
    Split,
    Strategy,
    TissueMethod,
    UnreadableTiles,
    words,
)

_SHARE = Number(least=0, most=1)
_PERCENT = Number(over=0, under=100, noun="percent")
_COUNT = Whole(least=1)
MOST_PROCESSES = 1024
"""More than any machine has cores: a number that slipped must not fill it with processes."""

MOST_IN_BATCH = 2**16
MOST_UNITS = 2**14
MOST_LEVELS = 64
"""Of T; the paper compares up to five."""

_PROCESSES = Whole(least=1, most=MOST_PROCESSES)
_UNITS = Whole(least=1, most=MOST_UNITS)
_LEVELS = Whole(least=1, most=MOST_LEVELS)
_WEIGHT = Number(least=0)
_PART = Number(over=0, most=1)
_PATHS = Items(PathText(), "a path, or a list of them", may_be_empty=True)
_OF_SPLIT = Word(words(Split))

OPTIONS: dict[str, OptionType] = {
    # what every stage shares
    "bundle_root": PathText(),
    "slides": PathText(),
    "dataset_dir": PathText(),
    "output_dir": PathText(),
    "model": PathText(),
    "encoder": PathText(),
    "device": Device(),
    "seed": Whole(least=0, most=2**32 - 1),
    "max_epochs": _COUNT,
    "batch_size": Whole(least=1, most=MOST_IN_BATCH),
    "multiple": Whole(least=1, most=64),
    "learning_rate": Number(over=0),
    "num_workers": Whole(least=0, most=MOST_PROCESSES),
    "resume": YesNo(),
    "replace": YesNo(),
    "dry_run": YesNo(),
    "split": _OF_SPLIT,
    "resamples": Whole(least=1, most=1_000_000),
    "timeout_s": Number(over=0, noun="seconds"),
    "backend": Word(words(BackendChoice)),
    # lists of slides, and their splits
    "cohort": Text(),  # an overlay may add one
    "slides_per_class": _COUNT,
    "reference": PathText(),
    "normal_086": Word(words(Normal086)),
    "test_049": Word(words(DropOrKeep)),
    "test_114": Word(words(DropOrKeep)),
    "labels": Word(words(CamelyonLabels)),
    "itc": Word(words(IsolatedCells)),
    "section": Word(words(Section)),
    "patient_pattern": Text("a regular expression"),
    "columns": TextMapping("{'slide': ..., 'label': ..., 'patient': ..., 'split': ..., 'mpp': ...}"),
    "slide_folder": PathText(),
    "test_share": Number(least=0, under=1),
    "val_share": Number(over=0, under=1),
    "keep_test": YesNo(),
    "cells": Whole(least=4, most=1000),
    "mpp": Number(least=0.2, most=1, noun="micrometres per pixel"),
    "lesion_share": Items(Number(over=0, under=1), "two shares over 0 and under 1, such as 0.1,0.3", count=2),
    # patches and their encoder
    "patch_um": Number(over=0, noun="micrometres"),
    "side_px": Whole(least=1, most=512),
    "mean": Items(_SHARE, "three numbers from 0 to 1, of red, green and blue", count=3),
    "std": Items(Number(over=0), "three numbers over 0, of red, green and blue", count=3),
    "read_level": Either(Word(words(LevelRule)), Whole(least=0)),
    "drop_pen": YesNo(),
    "tissue_method": Word(words(TissueMethod)),
    "patches_per_slide": _COUNT,
    "splits": Items(_OF_SPLIT, "any of train, val, test, such as train,val"),
    "rich_share": _SHARE,
    "objective": Word(words(Objective)),
    "decoded": _COUNT,
    "temperature": Number(over=0),
    "dark_weight": _WEIGHT,
    "momentum": Number(over=0, under=1),
    "deviation": Number(over=0),
    "strategy": Word(words(Strategy)),
    "sparsity_rate": _PERCENT,
    "training_steps": _COUNT,
    "nuclei_per_mm2": Number(over=0),
    "error_margin": Number(least=0),
    "low": _PERCENT,
    "high": _PERCENT,
    "tolerance": Number(over=0),
    "max_steps": _COUNT,
    "measured_patches": _COUNT,
    "patches": _COUNT,
    # embeddings
    "engine": Word(words(Engine)),
    "precision": Word(words(PrecisionChoice)),
    "unreadable_tiles": Word(words(UnreadableTiles)),
    "shard": Shard(),
    "thumbnail_levels": _LEVELS,
    "cluster#address": Text("an address such as tcp://host:8786"),
    "workers": _PROCESSES,
    "threads": _PROCESSES,
    "split_patches": _COUNT,
    # training and evaluation of DSNet
    "accumulation_steps": _COUNT,
    "weight_decay": Number(least=0),
    "warmup#total_iters": Whole(least=0),
    "decay#step_size": _COUNT,
    "decay#gamma": _PART,
    "evaluated#share": _PART,
    "outputs#folder": PathText(),
    "head": Word(words(Head)),
    "fusion": Word(words(Fusion)),
    "patch_network": Word(words(PatchNetwork)),
    "top_share": _PART,
    "dropout": Number(least=0, under=1),
    "table#levels": _LEVELS,
    "cache_rate": _SHARE,
    "gib": Number(least=0, noun="a number of GiB"),
    "classes": Items(Text(), "class names, such as normal,tumor"),
    "allow_missing": YesNo(),
    "channel_range": Items(Whole(least=0), "two whole numbers, the first smaller, such as 0,64", count=2, rising=True),
    "standardise#enabled": YesNo(),
    "checkpointing#enabled": YesNo(),
    "balance": YesNo(),
    "calibrate": YesNo(),
    "patience": _COUNT,
    "projection": _UNITS,
    "intended_use": Text(),
    "graph": YesNo(),
    "val_interval": _COUNT,
    "masks": PathText(),
    "mask_px": _COUNT,
    "lesion_from": Whole(least=0),
    "weight": _WEIGHT,
    "mask_loss#weight": _WEIGHT,
    "seeds": PathText(),
    "folds": Whole(least=2),
    "first": _PATHS,
    "second": _PATHS,
    # baselines
    "width": _UNITS,
    "hidden": _UNITS,
    "depth": Whole(least=1, most=50),
    "stem_stride": Whole(least=1, most=16),
    "samples": _UNITS,
    "taken": _UNITS,
    "trees": Whole(least=1, most=1000),
    "bins": _UNITS,
    "ratio": _PART,
    "keep": _PART,
    "sigma": Number(over=0, most=100),
    "hard_share": _SHARE,
    "soft_share": _SHARE,
    "transition": _WEIGHT,
    # predictions, heat maps and pages
    "dataloader#batch_size": Whole(least=1, most=1),  # of inference: the slides come one after the other
    "dataloader#num_workers": Whole(least=0, most=0),
    "anonymise": YesNo(),
    "anonymise_key": PathText(),
    "threshold": _SHARE,
    "heat_maps": YesNo(),
    "target_class": Text("a class name"),
    "heat_map#source": Word(words(MapSource)),
    "cam": Word(words(Cam)),
    "heat_map#layer": Text("the name of a layer"),
    "predictions_dir": PathText(),
    "evaluation_dir": PathText(),
    "lowest": Number(least=0, under=1),
    "nms_cells": _COUNT,
}
"""Options by name; a name means the same in every stage and every component, but for those of `OF_STAGE`.

What would mean something else elsewhere stands with its id.
"""


@dataclass(frozen=True)
class Others:
    """Options of the stage that this one runs."""

    expected: str = "options of train.yaml, such as {'loss#balance': true}"

    def read(self, value: Any) -> dict[str, Any]:
        """Take a mapping, or the text of one, and read each option in it."""
        content = mapping(value, yaml.SafeLoader, self.expected)
        return {str(name): self._read(str(name), part) for name, part in content.items()}

    def _read(self, name: str, part: Any) -> Any:
        type_ = named(name, OPTIONS)
        return part if type_ is None or is_null(part) else read_as(type_, name, part)


_OF_STUDY: dict[str, OptionType] = {
    "seeds": Items(Whole(least=0, most=2**32 - 1), "whole numbers, such as 0,1,2", distinct=True),
    "jobs": _PROCESSES,
    "more": Others(),
}

OF_STAGE: dict[str, dict[str, OptionType]] = {
    "generating": {name: Whole(least=0) for name in words(Split)},
    "cross_validating": {"folds": PathText(), "overlays": _PATHS, "more": Others()},
    "localising": {"map": Word(words(MapValues))},
    "ablating": {
        "pooled_with": _PATHS,
        "mixed_dataset_dir": _PATHS,
        "fold_tables": _PATHS,
        "rows": Items(Text("a row"), "names of rows, such as full,no_sparsity"),
        "overlays": _PATHS,
        **_OF_STUDY,
    },
    "comparing_methods": {
        "methods": Items(Text("a method"), "names of methods, such as dsnet,dsmil"),
        "reference": Text("a method"),
        **_OF_STUDY,
    },
}
"""Options that mean something else, or exist, in one stage alone, by the id that the stage is run by."""


PATH_ARGUMENTS = ("folder", "path", "weights")
"""Arguments of components, in any stage, that are paths."""


def is_path(name: str) -> bool:
    """Whether an option, or what is set by an id, is a path."""
    return isinstance(named(name, OPTIONS), PathText) or name.rpartition("#")[2] in PATH_ARGUMENTS


def options_of(config: Mapping[str, Any]) -> dict[str, OptionType]:
    """Return the type of every option that a merged config may have."""
    found = dict(OPTIONS)
    for stage, own in OF_STAGE.items():
        if stage in config:
            found |= own
    return found


def named(name: str, known: Mapping[str, OptionType]) -> OptionType | None:
    """Return the type of an option, or of what is set by an id (``a#b``): that of the id, else that of its last part."""
    return known.get(name) or known.get(name.rpartition("#")[2])


def checked(name: str, value: Any, type_: OptionType | None = None, *, null: bool = False) -> Any:
    """Return an option's value; for components, which a program may call with any. The text of a number is no number here.

    Args:
        name: of the option or the argument.
        value: given for it.
        type_: what it may be; None: what the option of that name may be.
        null: whether it may be None.

    Raises:
        RequestError: it has the wrong type, or lies outside its range.
    """
    if null and value is None:
        return None
    try:
        return read_as(type_ or OPTIONS[name], name, value, texts=False)
    except ValueError as error:
        raise RequestError(f"{error}{', or None' if null else ''}") from error
