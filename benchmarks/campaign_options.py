"""Command lines of every stage, changed: values of the wrong type or range, misspelt names, words that are left over, odd texts.

The options are those that ``--help`` prints: names at the top of a config, and ids inside its components (``--optimizer#weight_decay``).

Left out is what MONAI refuses by itself before it comes to anything of ours, with its own trace: a config that is not there or is none,
a part of an id that there is not (``--nothing#part``) or that has no parts (``--seed#part``), a macro (``%...``), an expression in
``initialize`` that fails, one in ``options`` beside a ``--bundle_root`` that is none or a word that is left over (MONAI takes it for the
id of what is to be done first, so that no option is checked yet), more than three words that are left over, no stage
(an empty word: MONAI resolves the whole config).
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml
from campaign_cases import Found, how_it_ended, names_in
from campaign_commands import CONFIGS, run, stage
from campaign_world import CPU, World

from scripts.common.config_help import read_options
from scripts.common.option_types import MARKS

OUT = "out"
ODD_TEXTS = (
    "", " ", "abc", "-1", "0", "1", "1e3", "1e999", "nan", "inf", "-inf", "0x10", "1_000", "007", "1.5", "2147483648", "-0", "+1", "１",
    "true", "no", "None", "null", "[]", "[1", "{}", "{'a': 1}", "a,b", "1,2", "'", '"', "a b", "ü片\U0001f52c", "a\nb",
    "@nothing", "@seed", "$1/0",
    "$nothing", "$[", "$'a'", "~", "~nobody/x", "nowhere", "nowhere/x.csv", ".", "slides.csv", "a" * 5000,
    "cpu", "cuda:99", "auto", "1/0", "3/2", "--", "#", "a#b",
)  # fmt: skip
NO_NUMBERS = frozenset(
    {"abc", "nan", "inf", "-inf", "[1", "a b", "slides.csv", "nowhere", "ü片\U0001f52c", "'", "1e999"}
)
"""Texts that no option with a number for a default may take."""

HEAVY = frozenset(
    {
        "num_workers",
        "max_epochs",
        "resamples",
        "patches_per_slide",
        "projection",
        "cells",
        "train",
        "val",
        "test",
    }
)
"""Options, or last parts of ids, that a legal value turns into hours of work, or into a network that fills the memory."""

COSTLY = frozenset({"1e3", "2147483648", "1_000", "0x10", "007"})


NO_STAGES = ("options", "seed", "initialize")
"""Ids that name no work: nothing is done."""

Changed = tuple[str, list[str]]
"""What was done, and the words that must be refused where they stand in the command."""


def _base(world: World, case: Path) -> Mapping[str, tuple[tuple[str, ...], dict[str, Any]]]:
    """Of each stage the config files, and options with which it works."""
    data, out = {"dataset_dir": world.folder / "data"}, {"output_dir": case / OUT}
    trained = {"model": world.model, "encoder": world.encoder, **CPU}
    short = {"max_epochs": 1, "batch_size": 4}
    return {
        "generating": (("demo_data.yaml",), {**out, "train": 1, "val": 1, "test": 0, "cells": 4, "num_workers": 0}),
        "listing": (("datalist.yaml",), {**out, "cohort": "table", "slides": world.table}),
        "splitting": (("split.yaml",), {**out, "slides": world.table, "test_share": 0.25, "val_share": 0.25}),
        "sampling": (
            ("sample.yaml",),
            {**out, "slides": world.table, "draw#patches_per_slide": 4, "draw#rich_share": 0, "num_workers": 0},
        ),
        "encoding": (("encode.yaml",), {**out, "slides": world.table, "encoder": world.encoder, **CPU}),
        "inference": (("inference.yaml",), {**data, **out, "split": "test", **trained}),
        "evaluating": (("train.yaml", "evaluate.yaml"), {**data, **out, "model": world.model, **CPU}),
        "training": (("train.yaml",), {**data, **out, "graph": False, **short, **CPU}),
        "training ": (("train_scae.yaml",), {"dataset_dir": world.folder / "patches", **out, **short, **CPU}),
        "training  ": (("train.yaml", "recommended.yaml"), {**data, **out, "graph": False, **short, **CPU}),
        "reporting": (
            ("report.yaml",),
            {**out, "predictions_dir": world.folder / "predictions", "evaluation_dir": world.folder / "evaluation"},
        ),
        "comparing": (
            ("compare.yaml",),
            {
                **out,
                "first": world.folder / "evaluation/predictions.csv",
                "second": world.folder / "evaluation/predictions.csv",
                "resamples": 20,
            },
        ),
        "comparing_masks": (("compare_masks.yaml",), {**out, "slides": world.folder / "slides/slides/test_000.tif"}),
    }


def case(world: World, kind: str, folder: Path, rng: Random) -> list[Found]:
    """One case: the command of a stage with one or two changes."""
    folder.mkdir(parents=True)
    shutil.copy(world.table, folder)
    bundle = _bundle(folder)
    bases = _base(world, folder)
    name = rng.choice(sorted(bases))
    files, given = bases[name]
    words = stage(name.strip(), *files, **given)
    _set(words, "bundle_root", str(bundle))
    options = options_of(files)
    drawn = sorted(rng.choices(CHANGES, k=rng.choice((1, 1, 2))), key=lambda change: change is not _other_words)
    changes = [drawn[0](words, options, rng)]
    if "other config" not in changes[0][0]:  # which lacks what another change would set
        changes += [change(words, options, rng) for change in drawn[1:] if change is not _other_words]
    must = any(fatal and set(fatal) <= set(words) for _, fatal in changes)
    before = names_in(folder)
    ended = run(words, folder)
    ended.sweep()
    said = ""
    found = how_it_ended(ended, before, names_in(folder))
    if found is None and ended.code == 0 and must and "--help" not in words:
        found = ("wrong", "accepted: " + ended.said[-200:])
    outcome, said = found or (("clear", ended.error) if ended.code else ("right", ""))
    return [Found(kind, folder.name, f"{name.strip()}: {'; '.join(what for what, _ in changes)}", outcome, said)]


def options_of(files: Sequence[str]) -> dict[str, Any]:
    """The options of a stage's config files, and ids inside their components, with their defaults."""
    texts = read_options([str(CONFIGS / file) for file in files])
    return {name: text if text.startswith(MARKS) else yaml.safe_load(text) for name, (text, _) in texts.items()}


def _bundle(folder: Path) -> Path:
    """A bundle's folder of the case: what is written by default lands there."""
    bundle = folder / "bundle"
    shutil.copytree(CONFIGS, bundle / "configs")
    (bundle / "scripts").symlink_to(CONFIGS.parent / "scripts")
    return bundle


def _value(words: list[str], options: Mapping[str, Any], rng: Random) -> Changed:
    """Give an option an odd value."""
    name = rng.choice([name for name in sorted(options) if name != "bundle_root" or "--options#x" not in words])
    last = name.rpartition("#")[2]
    text = rng.choice([text for text in ODD_TEXTS if last not in HEAVY or text not in COSTLY])
    if name == "bundle_root" and text[:1] in ("@", "$"):
        text = "nowhere"
    number = _is_number(options[name])
    if name in ("output_dir", "model", "encoder") and text in ("~", "~nobody/x"):
        text = "abc"
    given = _set(words, name, text, assigned=rng.random() < 0.3)
    return f"--{name} {text[:30]!r}", given if number and text in NO_NUMBERS else []


def _misspelt(words: list[str], options: Mapping[str, Any], rng: Random) -> Changed:
    """Give an option that there is not."""
    name = rng.choice(sorted(options))
    place = rng.randrange(name.rfind("#") + 1, len(name))
    wrong = rng.choice(
        (
            name[:place] + name[place + 1 :],
            name + "s",
            name[:place] + "q" + name[place:],
            "#".join([*name.split("#")[:-1], f"no_{name.rpartition('#')[2]}s"]),
            "lr",
        )
    )
    words += [f"--{wrong}", "1"]
    return f"--{wrong}", [f"--{wrong}"] if wrong not in options and wrong.rpartition("#")[2] else []


def _left_over(words: list[str], options: Mapping[str, Any], rng: Random) -> Changed:
    """Leave a word that belongs to no option."""
    text = rng.choice(("slides.csv", "a.tif", "abc", "3", "true", "ü", "a b"))
    if "$1/0" in words:
        return "nothing", []
    words += ["--seed", "0", text] if "--seed" not in words else [text]
    return f"left over {text!r}", [] if words[1] in NO_STAGES else [text]  # of those MONAI looks at nothing else


def _twice(words: list[str], options: Mapping[str, Any], rng: Random) -> Changed:
    """Give an option twice."""
    words += ["--output_dir", "another"]
    return "--output_dir twice", words[-2:] if "--output_dir" in words[:-2] else []


def _without_value(words: list[str], options: Mapping[str, Any], rng: Random) -> Changed:
    """Give no value."""
    name = rng.choice(sorted(options))
    _remove(words, name)
    words.append(f"--{name}")
    default = options[name]
    return f"--{name} without a value", words[-1:] if _is_number(default) else []


def _left_out(words: list[str], options: Mapping[str, Any], rng: Random) -> Changed:
    """Leave out an option that is needed; never the folder of the outputs, which would be the bundle's own."""
    names = [
        word[2:]
        for word in words
        if word.startswith("--") and word not in ("--output_dir", "--bundle_root", "--config_file")
    ]
    name = rng.choice(names or ["seed"])
    if name in ("max_epochs", "draw#patches_per_slide", "resamples", "device"):
        return "nothing", []
    _remove(words, name)
    return f"without --{name}", []


def _other_words(words: list[str], options: Mapping[str, Any], rng: Random) -> Changed:
    """Change what stands before the options: the stage, the config, the bundle's folder."""
    how = rng.choice(("stage", "config", "root", "help", "inside"))
    if how == "stage":
        words[1] = rng.choice(("trainng", "run", *NO_STAGES))
        return f"stage {words[1]!r}", [words[1]] if words[1] == "trainng" else []
    if how == "config":
        for name in [word[2:] for word in words if word.startswith("--") and "#" in word]:
            _remove(words, name)
        file = rng.choice(("evaluate.yaml", "masks.yaml", "cluster.yaml"))
        return f"other config {file}", _set(words, "config_file", str(CONFIGS / file))
    if how == "root":
        _set(words, "bundle_root", rng.choice(("nowhere", "slides.csv", "")))
    elif how == "inside":
        words += rng.choice(
            [("--options#x", "abc"), ("--options#x", "$1/0"), ("--initialize#0", "abc"), ("--initialize#0", "nowhere")]
        )
    else:
        words.append("--help")
    return how, []


Change = Callable[[list[str], Mapping[str, Any], Random], Changed]
CHANGES: tuple[Change, ...] = (
    _value,
    _value,
    _value,
    _value,
    _misspelt,
    _left_over,
    _twice,
    _without_value,
    _left_out,
    _other_words,
)
"""Each changes the words in place."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _set(words: list[str], name: str, text: str, *, assigned: bool = False) -> list[str]:
    """Give an option another value; return its words."""
    _remove(words, name)
    words += (given := [f"--{name}={text}"] if assigned else [f"--{name}", text])
    return given


def _remove(words: list[str], name: str) -> None:
    """Take an option out of the words, in either spelling."""
    assigned = [word for word in words if word.startswith(f"--{name}=")]
    for word in assigned:
        words.remove(word)
    if f"--{name}" in words:
        place = words.index(f"--{name}")
        del words[place : place + 2]
