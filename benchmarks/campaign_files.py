"""Damaged files that are no slides: embeddings, weights, cards, tables, records; each lies where a command reads it."""

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from campaign_cases import Found, differing, how_it_ended, names_in
from campaign_commands import run, stage
from campaign_damage import BYTES, Damage, hdf5_part, json_part, json_text, lines_part, weights_part
from campaign_notices import (
    always,
    hdf5_notices,
    json_notices,
    patches_notice,
    predictions_notice,
    table_notices,
    weights_notice,
)
from campaign_tables import table_part
from campaign_world import CPU, World

JSON = (json_part, json_part, json_part, json_text)
OUT = "out"
TINY = {"max_epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "graph": False}


@dataclass(frozen=True)
class Scene:
    """A file and a command that reads it.

    Attributes:
        kind: what it counts as.
        parts: files or folders of the world that the case has a copy of.
        file: what is damaged, below the case's folder.
        words: the command, of the world and the case's folder; writes into ``out`` there.
        damage: what may happen to the file, beside its bytes.
        notices: whether a strict reading sees that the damaged file (second) is not the whole one (first).
        writes: folder of what is compared.
    """

    kind: str
    parts: tuple[str, ...]
    file: str
    words: Callable[[World, Path], Sequence[str]]
    damage: tuple[Damage, ...]
    notices: Callable[[Path, Path], bool]
    writes: str = OUT

    @property
    def name(self) -> str:
        """Unlike that of any other scene."""
        return f"{self.kind}-{self.file.replace('/', '-').replace('.', '-')}-{self.words.__name__.strip('_')}"


def _classify(world: World, case: Path) -> list[str]:
    given = case / "training" / "model.pt"
    data = next((case / name for name in ("data", "foreign") if (case / name).is_dir()), world.folder / "data")
    model = given if given.parent.is_dir() else world.model
    return stage(
        "inference",
        "inference.yaml",
        dataset_dir=data,
        model=model,
        encoder=world.encoder,
        output_dir=case / OUT,
        heat_maps=False,
        **CPU,
    )


def _evaluate(world: World, case: Path) -> list[str]:
    return stage(
        "evaluating",
        "train.yaml",
        "evaluate.yaml",
        dataset_dir=case / "data",
        model=world.model,
        output_dir=case / OUT,
        **CPU,
    )


def _encode(world: World, case: Path) -> list[str]:
    slide = world.folder / "slides" / "slides" / "test_000.tif"
    return stage(
        "encoding",
        "encode.yaml",
        slides=slide,
        encoder=case / "scae" / "scae.pt",
        output_dir=case / OUT,
        **{"job#engine": "torch"},
        **CPU,
    )


def _encode_on(world: World, case: Path) -> list[str]:
    return stage("encoding", "encode.yaml", slides=world.table, encoder=world.encoder, output_dir=case / "data", **CPU)


def _train(world: World, case: Path) -> list[str]:
    return stage(
        "training", "train.yaml", dataset_dir=case / "data", output_dir=case / OUT, **(TINY | {"max_epochs": 1}), **CPU
    )


def _train_on(world: World, case: Path) -> list[str]:
    return stage(
        "training",
        "train.yaml",
        dataset_dir=world.folder / "data",
        output_dir=case / "training",
        resume=True,
        **TINY,
        **CPU,
    )


def _train_encoder(world: World, case: Path) -> list[str]:
    return stage(
        "training", "train_scae.yaml", dataset_dir=case / "patches", output_dir=case / OUT, max_epochs=1, **CPU
    )


def _report(world: World, case: Path) -> list[str]:
    return stage(
        "reporting",
        "report.yaml",
        predictions_dir=case / "predictions",
        evaluation_dir=case / "evaluation",
        output_dir=case / OUT,
    )


def _split(world: World, case: Path) -> list[str]:
    table = case / "slides" / "slides.csv"
    return stage(
        "splitting",
        "split.yaml",
        slides=table if table.parent.is_dir() else world.table,
        output_dir=case / "splits",
        test_share=0.25,
        val_share=0.25,
    )


def _predict_on(world: World, case: Path) -> list[str]:
    return stage(
        "inference",
        "inference.yaml",
        dataset_dir=world.folder / "data",
        split="test",
        model=world.model,
        encoder=world.encoder,
        output_dir=case / "predictions",
        **CPU,
    )


REPORTED = ("predictions", "evaluation")
SCENES: tuple[Scene, ...] = (
    Scene("embeddings", ("data",), "data/test_000.h5", _classify, (hdf5_part,) * 6, always),
    Scene("embeddings", ("foreign",), "foreign/test_000.h5", _classify, (hdf5_part,) * 6, hdf5_notices),
    Scene("embeddings", ("data",), "data/train_000.h5", _train, (hdf5_part,) * 6, always),
    Scene("embeddings", ("data",), "data/test_000.h5", _encode_on, (hdf5_part,) * 6, always, "data"),
    Scene("patches", ("patches",), "patches/patches.h5", _train_encoder, (hdf5_part,) * 6, patches_notice),
    Scene("weights", ("training",), "training/model.pt", _classify, (weights_part,) * 6, always),
    Scene("weights", ("scae",), "scae/scae.pt", _encode, (weights_part,) * 6, weights_notice),
    Scene("weights", ("training",), "training/last.pt", _train_on, (weights_part,) * 6, weights_notice, "training"),
    Scene("cards", ("training",), "training/model.json", _classify, JSON * 2, json_notices),
    Scene("records", REPORTED, "predictions/inference.json", _report, JSON * 2, json_notices),
    Scene("records", REPORTED, "predictions/test_000/scores.json", _report, JSON * 2, json_notices),
    Scene("records", REPORTED, "evaluation/metrics.json", _report, JSON * 2, json_notices),
    Scene("records", REPORTED, "evaluation/calibration.json", _report, JSON * 2, json_notices),
    Scene("records", ("splits",), "splits/split.json", _split, JSON * 2, json_notices, "splits"),
    Scene(
        "records",
        ("predictions",),
        "predictions/.inference.outputs.jsonl",
        _predict_on,
        (lines_part,) * 6,
        always,
        "predictions",
    ),
    Scene("records", ("data",), "data/.encoding.outputs.jsonl", _encode_on, (lines_part,) * 6, always, "data"),
    Scene(
        "records", ("training",), "training/.training.outputs.jsonl", _train_on, (lines_part,) * 6, always, "training"
    ),
    Scene("tables", ("slides",), "slides/slides.csv", _split, (table_part,) * 20, always, "splits"),
    Scene("tables", ("data",), "data/slides.csv", _evaluate, (table_part,) * 20, always),
    Scene("tables", ("data",), "data/manifest.csv", _classify, (table_part,) * 8, table_notices),
    Scene("tables", REPORTED, "predictions/predictions.csv", _report, (table_part,) * 8, predictions_notice),
    Scene("tables", REPORTED, "evaluation/predictions.csv", _report, (table_part,) * 8, table_notices),
)
KINDS = tuple(dict.fromkeys(scene.kind for scene in SCENES))


def prepare(world: World) -> None:
    """Run each scene undisturbed; what that leaves is what a case is compared with.

    Raises:
        RuntimeError: one fails.
    """
    for scene in SCENES:
        folder = world.reference / scene.name
        if (folder / ".made").is_file():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        _copy(world, scene, folder)
        ended = run(scene.words(world, folder), folder)
        ended.sweep()
        if ended.code != 0:
            raise RuntimeError(f"{scene.name}: ended with {ended.code}\n{ended.said[-3000:]}")
        (folder / ".made").touch()


def case(world: World, kind: str, folder: Path, rng: Random) -> list[Found]:
    """One case: a scene of this kind, its file damaged, its command judged."""
    scene = rng.choice([scene for scene in SCENES if scene.kind == kind])
    _copy(world, scene, folder)
    damaged, whole = folder / scene.file, world.folder / scene.file
    damage = rng.choice((*BYTES, *scene.damage))
    what = f"{scene.name}: {damage.__name__}: {damage(damaged, rng)}"
    kept = damaged.read_bytes() if damaged.is_file() else None
    before = names_in(folder)
    ended = run(scene.words(world, folder), folder)
    ended.sweep()
    outcome, said = judge(scene, world, folder, before, ended)
    if outcome == "differs" and kept is not None:
        damaged.write_bytes(kept)  # the run may have made it anew
        if scene.kind == "tables" and scene.damage[0] is table_part and scene.notices is always:
            outcome = "unnoticeable" if says_the_same(damaged, folder / scene.writes) else "wrong"
        else:
            outcome = "wrong" if scene.notices(whole, damaged) else "unnoticeable"
    return [Found(kind, folder.name, what, "wrong" if outcome == "differs" else outcome, said)]


def judge(scene: Scene, world: World, folder: Path, before: set[str], ended) -> tuple[str, str]:
    """Say what became of a case, by how its command ended and by what it left."""
    if (folder / "run_by_a_file").exists() or any(folder.rglob("run_by_a_file")):
        return "wrong", "the file was run"
    found = how_it_ended(ended, before, names_in(folder))
    if found is not None:
        return found
    if ended.code == 1:
        return "clear", ended.error
    differences = differing(world.reference / scene.name / scene.writes, folder / scene.writes)
    return ("differs", f"{'; '.join(differences[:4])}: {ended.said[-200:]}") if differences else ("right", "")


NO_LABEL = frozenset({"", "na", "nan"})
"""Of what a table is given: such a slide is left out of an evaluation, with a warning."""


def says_the_same(table: Path, written: Path) -> bool:
    """Whether what a stage wrote has slides, labels and patients as a strict reading of its table has them."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            given = [
                {(name or "").strip(): cell for name, cell in row.items()}
                for row in csv.DictReader(file, strict=True)
                if any((cell or "").strip() for cell in row.values() if not isinstance(cell, list))
            ]
        if (written / "split.csv").is_file():
            with open(written / "split.csv", newline="", encoding="utf-8") as file:
                got = list(csv.DictReader(file))
            columns = [name for name in given[0] if name not in ("slide", "split", "slide_id")]
            return [[row[name] for name in columns] for row in given] == [
                [row[name] for name in columns] for row in got
            ] and [Path(row["slide"].strip()).name for row in given] == [Path(row["slide"]).name for row in got]
        with open(written / "predictions.csv", newline="", encoding="utf-8") as file:
            labels = {row["slide_id"]: row["label"] for row in csv.DictReader(file)}
    except (ValueError, csv.Error, OSError, KeyError, IndexError, AttributeError):
        return False
    asked = {
        (row.get("slide_id") or "").strip() or Path(row["slide"].strip()).stem: row
        for row in given
        if row["split"].strip() == "test" and row["label"].strip().lower() not in NO_LABEL
    }
    return {name: row["label"].strip().removesuffix(".0") for name, row in asked.items()} == labels


def _copy(world: World, scene: Scene, folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in scene.parts:
        if part == "slides":  # the table alone is read
            (folder / part).mkdir()
            shutil.copy(world.table, folder / part)
        else:
            shutil.copytree(world.folder / part, folder / part)
