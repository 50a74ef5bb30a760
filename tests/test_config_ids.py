"""An id of a config builds an object, and the run list acts: to look at every id of every config does nothing."""

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import set_determinism
from PIL import Image
from test_configs import ENTRIES, files_of
from tiny_flow import BUNDLE, CONFIGS, ON_CPU, read_rows, workflow
from training.embedding_files import write_dataset, write_embedding

from scripts.common.config_files import bases_of
from scripts.common.files import sha256_of, write_json
from scripts.dsnet.network import DSNet
from scripts.patches.draw import SlideSample
from scripts.patches.patch_file import patch_writer
from scripts.scae.scae_network import SCAE
from scripts.training.model_card import ModelCard, card_path

ACTING = {"initialize", "finalize", *(entry for entries in ENTRIES.values() for entry in entries)}
"""Ids that are run lists."""

STAGES = [
    *(files_of(name) for name in sorted(ENTRIES)),
    ("train.yaml", "multi_gpu_train.yaml", "evaluate.yaml"),
    ("train.yaml", "recommended.yaml", "evaluate.yaml"),
    *((bases_of(str(path))[0], f"{path.parent.name}/{path.name}") for path in sorted(CONFIGS.glob("*/*.yaml"))),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages read; the slides are no slides, so that to read one is to fail."""
    root = tmp_path_factory.mktemp("world")
    dataset = write_dataset(root / "data", train=2, val=2, test=2)
    for path in dataset.glob("*.h5"):
        write_embedding(path, channels=128, levels=5)
        path.with_suffix(".tif").write_text("no slide")
    write_dataset(root / "raw", train=2, val=2, test=2, channels=3 * 32**2)  # raw patches
    pixels = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3)).astype(np.uint8)
    with patch_writer(root / "patches" / "patches.h5", {"seed": 0}) as append:
        append("slide", SlideSample(pixels, np.zeros((8, 2), int), np.ones(8, bool), 9, ""))
    (root / "masks").mkdir()
    for name in ("train_1", "val_1"):
        Image.new("L", (5, 6)).save(root / "masks" / f"{name}.png")
    network, model = DSNet(thumbnail_levels=5), root / "models" / "model.pt"
    model.parent.mkdir()
    torch.save(SCAE().state_dict(), root / "models" / "scae.pt")
    torch.save(network.state_dict(), model)
    card = ModelCard(
        class_names=("0", "1"),
        threshold=0.5,
        threshold_from="val",
        encoder=None,
        network=network.arguments,
        weights_sha256=sha256_of(model),
    )
    write_json(card_path(model), card.to_json())
    return root


@pytest.fixture
def one_process() -> Iterator[None]:
    """The group that ``initialize`` of multi_gpu_train.yaml makes."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def options_of(config: dict[str, Any], world: Path) -> dict[str, Any]:
    """A request that could be run, of the options that a config has."""
    dataset = world / ("data" if "table" in config or "model" in config else "patches")
    if "patch_network" in config.get("network_def", {}):
        dataset = world / "raw"
    given = {
        "slides": world / "data" / "slides.csv",
        "dataset_dir": dataset,
        "output_dir": world / "out",
        "model": world / "models" / "model.pt",
        "encoder": world / "models" / "scae.pt",
        "masks": world / "masks",
        "cohort": "folder",
        "resume": True,
        **ON_CPU,
    }
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items() if name in config}


def everything_in(*folders: Path) -> set[tuple[str, int, int]]:
    """Files and folders with size and time."""
    found = (path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("files", STAGES, ids="+".join)
def test_looking_at_an_id_does_nothing(
    files: tuple[str, ...],
    dry_run: bool,
    world: Path,
    one_process: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is written, read of a slide, printed, logged as done, or ended."""
    if "cluster.yaml" in files and importlib.util.find_spec("distributed") is None:
        pytest.skip("dask is not installed: pip install 'dask[distributed]'")
    config = workflow(*files, run_id="run").parser.config
    if dry_run and "dry_run" not in config:
        pytest.skip("it has no dry run")
    monkeypatch.chdir(world)
    stage = workflow(*files, run_id="run", **options_of(config, world), **({"dry_run": True} if dry_run else {}))
    stage.parser.parse()
    before = everything_in(world, BUNDLE)
    caplog.set_level(logging.INFO)
    try:
        for name in list(stage.parser.ref_resolver.items):
            top = name.split(ID_SEP_KEY)[0]  # "" of the config as a whole; "#" stands in names of another config
            if top not in {"", *ACTING} and "#" not in name:
                stage.parser.get_parsed_content(name)
    finally:
        set_determinism(seed=None)
    assert everything_in(world, BUNDLE) == before
    assert not [record for record in caplog.records if record.name.startswith("scripts")]
    told = capsys.readouterr().out.splitlines()
    assert not [line for line in told if " - WARNING - " not in line], "MONAI warns where TensorRT is missing"


@pytest.mark.parametrize("files", [("train.yaml",), ("inference.yaml",)], ids="+".join)
def test_one_network(files: tuple[str, ...], world: Path) -> None:
    """As it is defined; in a training, that on the device, and what of it is validated."""
    config = workflow(*files, run_id="run").parser.config
    stage = workflow(*files, run_id="run", **options_of(config, world))
    stage.parser.parse()
    names = [name for name in config if name not in ACTING and not name.startswith("_")]
    network = stage.parser.get_parsed_content("network_def")
    assert [name for name in names if stage.parser.get_parsed_content(name) is network] in (
        ["network_def"],
        ["network_def", "network", "evaluated"],
    )


def inference(world: Path, output: Path, **options: Any) -> Any:
    """Inference on the embeddings, whose evaluator somebody looks at before it runs."""
    given = {"dataset_dir": world / "data", "model": world / "models" / "model.pt", "heat_maps": False, **ON_CPU}
    stage = workflow("inference.yaml", run_id="run", workflow_type="infer", output_dir=output, **given, **options)
    try:
        stage.initialize()
        assert stage.evaluator.data_loader.dataset is stage.dataset
        stage.run()
    finally:
        set_determinism(seed=None)
    return stage


def test_what_was_looked_at_before_does_all_of_its_work(world: Path, tmp_path: Path) -> None:
    stage = inference(world, tmp_path)
    assert stage.evaluator.state.iteration == 6
    assert len(read_rows(tmp_path / "predictions.csv")) == 6


def test_a_dry_run_on_embeddings_tells_their_number(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inference(world, tmp_path, dry_run=True)
    assert "slides: 6 of 6 to classify by their embeddings" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
