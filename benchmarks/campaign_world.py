"""What the campaign's cases start from: every stage once, on the smallest slide set, undisturbed."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
from campaign_commands import run, stage

from scripts.slides.synthetic import write_tiny_slide_set

CPU = {"device": "cpu", "num_workers": 0}


@dataclass(frozen=True)
class World:
    """The folder of the undisturbed runs; ``reference`` holds what each command of a case gives if nothing happens."""

    folder: Path

    @cached_property
    def table(self) -> Path:
        """The slides."""
        return self.folder / "slides" / "slides.csv"

    @cached_property
    def model(self) -> Path:
        """The weights of DSNet."""
        return self.folder / "training" / "model.pt"

    @cached_property
    def encoder(self) -> Path:
        """The weights of the S-CAE."""
        return self.folder / "scae" / "scae.pt"

    @cached_property
    def reference(self) -> Path:
        """Folder of the undisturbed cases."""
        return self.folder.parent / "reference"


def make_world(output: Path) -> World:
    """Make what is not there yet.

    Raises:
        RuntimeError: a stage fails that should not.
    """
    world = World(output / "world")
    if (world.folder / "made").is_file():
        return world
    shutil.rmtree(world.folder, ignore_errors=True)
    write_tiny_slide_set(world.folder / "slides")
    here = world.folder
    data = {"dataset_dir": here / "data"}
    done(
        stage(
            "sampling",
            "sample.yaml",
            slides=world.table,
            output_dir=here / "patches",
            **{"draw#patches_per_slide": 8, "draw#rich_share": 0},
            num_workers=0,
        ),
        here,
    )
    done(
        stage(
            "training", "train_scae.yaml", dataset_dir=here / "patches", output_dir=here / "scae", max_epochs=1, **CPU
        ),
        here,
    )
    done(
        stage("encoding", "encode.yaml", slides=world.table, output_dir=here / "data", encoder=world.encoder, **CPU),
        here,
    )
    training = {"max_epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "graph": False}
    done(stage("training", "train.yaml", **data, output_dir=here / "training", **training, **CPU), here)
    trained = {"model": world.model, "encoder": world.encoder, **CPU}
    done(
        stage(
            "evaluating",
            "train.yaml",
            "evaluate.yaml",
            **data,
            output_dir=here / "evaluation",
            model=world.model,
            **CPU,
        ),
        here,
    )
    done(stage("inference", "inference.yaml", **data, split="test", output_dir=here / "predictions", **trained), here)
    done(
        stage(
            "splitting", "split.yaml", slides=world.table, output_dir=here / "splits", test_share=0.25, val_share=0.25
        ),
        here,
    )
    write_foreign(here / "data", here / "foreign")
    (here / "made").touch()
    return world


def done(words: list[str], folder: Path) -> float:
    """Run a command that must succeed; return its seconds."""
    ended = run(words, folder)
    ended.sweep()
    if ended.code != 0:
        raise RuntimeError(f"{' '.join(words)}: ended with {ended.code}\n{ended.said[-3000:]}")
    return ended.seconds


def write_foreign(data: Path, folder: Path) -> None:
    """The same embeddings as another tool would write them: features and coords alone."""
    folder.mkdir()
    shutil.copy(data / "slides.csv", folder)
    for path in sorted(data.glob("[!.]*.h5")):
        with h5py.File(path) as ours, h5py.File(folder / path.name, "w") as theirs:
            theirs["features"] = ours["features"][()]
            theirs["coords"] = ours["coords"][()]
            theirs["coords"].attrs["patch_size_level0"] = ours["coords"].attrs["patch_size_level0"]
