"""Command lines of every stage, changed: values of the wrong type or range, misspelt names, words that are left over, odd texts.

Left out is what MONAI refuses by itself before it comes to anything of ours, with its own trace:
a config that is not there or is none, a part of
an id that there is not (``--nothing#part``) or that has no parts (``--seed#part``), a macro (``%...``), and a bundle_root that
refers to an id or is an expression (``@...``, ``$...``).
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import yaml
from campaign_cases import Found, how_it_ended, names_in
from campaign_commands import CONFIGS, run, stage
from campaign_world import CPU, World

from scripts.common.option_table import OF_STAGE, OPTIONS

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
        "draw#patches_per_slide",
        "cells",
        "train",
        "val",
        "test",
    }
)
"""Options that a legal value turns into hours of work."""

COSTLY = frozenset({"1e3", "2147483648", "1_000", "0x10", "007"})

KNOWN = set(OPTIONS).union(*OF_STAGE.values())


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
    config: dict[str, Any] = {}
    for file in files:
        config |= yaml.safe_load((CONFIGS / file).read_text(encoding="utf-8"))
    options = {key: value for key, value in config.items() if _is_option(key, value)}
    must, whats = False, []
    for change in rng.choices(CHANGES, k=rng.choice((1, 1, 2))):
        what, refused = change(words, options, rng)
        must = must or refused
        whats.append(what)
    before = names_in(folder)
    ended = run(words, folder)
    ended.sweep()
    said = ""
    found = how_it_ended(ended, before, names_in(folder))
    if found is None and ended.code == 0 and must and "--help" not in words:
        found = ("wrong", "accepted: " + ended.said[-200:])
    outcome, said = found or (("clear", ended.error) if ended.code else ("right", ""))
    return [Found(kind, folder.name, f"{name.strip()}: {'; '.join(whats)}", outcome, said)]


def _bundle(folder: Path) -> Path:
    """A bundle's folder of the case: what is written by default lands there."""
    bundle = folder / "bundle"
    shutil.copytree(CONFIGS, bundle / "configs")
    (bundle / "scripts").symlink_to(CONFIGS.parent / "scripts")
    return bundle


def _is_option(key: str, value: Any) -> bool:
    return key in KNOWN and (value is None or isinstance(value, bool | int | float | str))


def _value(words: list[str], options: Mapping[str, Any], rng: Random) -> tuple[str, bool]:
    """Give an option an odd value."""
    name = rng.choice(sorted(options))
    text = rng.choice([text for text in ODD_TEXTS if name not in HEAVY or text not in COSTLY])
    if name == "bundle_root" and text[:1] in ("@", "$"):
        text = "nowhere"
    default = options[name]
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if name in ("output_dir", "model", "encoder") and text in ("~", "~nobody/x"):
        text = "abc"
    _set(words, name, text, assigned=rng.random() < 0.3)
    return f"--{name} {text[:30]!r}", number and text in NO_NUMBERS


def _misspelt(words: list[str], options: Mapping[str, Any], rng: Random) -> tuple[str, bool]:
    """Give an option that there is not."""
    name = rng.choice(sorted(options))
    place = rng.randrange(len(name))
    wrong = rng.choice(
        (
            name[:place] + name[place + 1 :],
            name + "s",
            name[:place] + "q" + name[place:],
            f"no_{name}s",
            "lr",
        )
    )
    words += [f"--{wrong}", "1"]
    return f"--{wrong}", wrong not in options and wrong != "" and wrong.replace("-", "_") not in options


def _left_over(words: list[str], options: Mapping[str, Any], rng: Random) -> tuple[str, bool]:
    """Leave a word that belongs to no option."""
    text = rng.choice(("slides.csv", "a.tif", "abc", "3", "true", "ü", "a b"))
    words += ["--seed", "0", text] if "--seed" not in words else [text]
    return f"left over {text!r}", True


def _twice(words: list[str], options: Mapping[str, Any], rng: Random) -> tuple[str, bool]:
    """Give an option twice."""
    words += ["--output_dir", "another"]
    return "--output_dir twice", "--output_dir" in words[:-2]


def _without_value(words: list[str], options: Mapping[str, Any], rng: Random) -> tuple[str, bool]:
    """Give no value."""
    name = rng.choice(sorted(options))
    _remove(words, name)
    words.append(f"--{name}")
    default = options[name]
    return f"--{name} without a value", isinstance(default, int | float) and not isinstance(default, bool)


def _left_out(words: list[str], options: Mapping[str, Any], rng: Random) -> tuple[str, bool]:
    """Leave out an option that is needed; never the folder of the outputs, which would be the bundle's own."""
    names = [
        word[2:]
        for word in words
        if word.startswith("--") and word not in ("--output_dir", "--bundle_root", "--config_file")
    ]
    name = rng.choice(names or ["seed"])
    if name in ("max_epochs", "draw#patches_per_slide", "resamples", "device"):
        return "nothing", False
    _remove(words, name)
    return f"without --{name}", False


def _other_words(words: list[str], options: Mapping[str, Any], rng: Random) -> tuple[str, bool]:
    """Change what stands before the options: the stage, the config, the bundle's folder."""
    how = rng.choice(("stage", "config", "root", "help", "inside"))
    if how == "stage":
        words[1] = rng.choice(("trainng", "run", "options", "seed", "", "initialize"))
        return f"stage {words[1]!r}", words[1] == "trainng"
    if how == "config":
        _set(
            words,
            "config_file",
            rng.choice((str(CONFIGS / "evaluate.yaml"), str(CONFIGS / "masks.yaml"), str(CONFIGS / "cluster.yaml"))),
        )
        for word in [
            word for word in words if word.startswith("--") and "#" in word
        ]:  # which it has not: MONAI's own trace
            _remove(words, word[2:])
        return "other config", True
    if how == "root":
        _set(words, "bundle_root", rng.choice(("nowhere", "slides.csv", "")))
    elif how == "inside":
        words += [
            rng.choice(("--options#x", "--initialize#0")),
            rng.choice(("abc", "$1/0", "nowhere")),
        ]
    else:
        words.append("--help")
    return how, False


Change = Callable[[list[str], Mapping[str, Any], Random], tuple[str, bool]]
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
"""Each changes the words in place; says what it did, and whether that must be refused."""


def _set(words: list[str], name: str, text: str, *, assigned: bool = False) -> None:
    _remove(words, name)
    words += [f"--{name}={text}"] if assigned else [f"--{name}", text]


def _remove(words: list[str], name: str) -> None:
    if f"--{name}" in words:
        place = words.index(f"--{name}")
        del words[place : place + 2]
