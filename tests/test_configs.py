import json
import re
import shutil
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
import torch
from command_server import command_server
from monai.bundle import ComponentLocator, ConfigParser, ckpt_export, verify_net_in_out
from monai.bundle.reference_resolver import ReferenceResolver
from monai.utils import set_determinism
from tiny_flow import BUNDLE, CONFIGS, ON_CPU, TinyFlow, cause_of, run_command, run_config, workflow
from training.embedding_files import CHANNELS, write_dataset

from scripts.dsnet.network import DSNet
from scripts.training.card import network_from_card, read_card

pytest_plugins = ["tiny_flow_fixture"]

ENTRIES = {
    "demo_data.yaml": ("generating",),
    "datalist.yaml": ("listing", "run"),
    "split.yaml": ("splitting", "run"),
    "sample.yaml": ("sampling",),
    "train_scae.yaml": ("training", "run"),
    "search_sparsity.yaml": ("searching", "run"),
    "encode.yaml": ("encoding", "run"),
    "encode_nic.yaml": ("encoding", "run"),
    "encode_resnet50.yaml": ("encoding", "run"),
    "encode_raw.yaml": ("encoding", "run"),
    "cluster.yaml": ("encoding", "run"),
    "doctor.yaml": ("doctor", "run"),
    "train.yaml": ("training", "run"),
    "evaluate.yaml": ("evaluating", "run"),
    "multi_gpu_train.yaml": ("training", "run"),
    "segment_train.yaml": ("training", "run"),
    "recommended.yaml": ("training", "run"),
    "masks.yaml": ("training", "run"),
    "raw_patches.yaml": ("training", "run"),
    "recommended_scae.yaml": ("training", "run"),
    "inference.yaml": ("inference", "run"),
    "inference_trt.yaml": ("inference", "run"),
    "report.yaml": ("reporting", "run"),
    "compare_masks.yaml": ("comparing_masks", "run"),
    "scae_panels.yaml": ("drawing_panels", "run"),
    "compare.yaml": ("comparing", "run"),
    "kfold.yaml": ("cross_validating", "run"),
    "localise.yaml": ("localising", "run"),
    "ablate.yaml": ("ablating", "run"),
    "compare_methods.yaml": ("comparing_methods", "run"),
}
"""Ids that each file offers to run, overlays with the file they lie on."""

OVERLAYS = {
    "evaluate.yaml": "train.yaml",
    "encode_nic.yaml": "encode.yaml",
    "encode_resnet50.yaml": "encode.yaml",
    "encode_raw.yaml": "encode.yaml",
    "cluster.yaml": "encode.yaml",
    "multi_gpu_train.yaml": "train.yaml",
    "inference_trt.yaml": "inference.yaml",
    "segment_train.yaml": "train.yaml",
    "recommended.yaml": "train.yaml",
    "masks.yaml": "recommended.yaml",
    "baselines/chen.yaml": "train.yaml",
    "raw_patches.yaml": "baselines/chen.yaml",
    "recommended_scae.yaml": "train_scae.yaml",
}
FILES = sorted(path.name for path in CONFIGS.glob("*.yaml"))
COMMON_OPTIONS = {
    "sample.yaml": {"slides", "output_dir", "num_workers", "seed"},
    "train_scae.yaml": {
        "dataset_dir", "output_dir", "max_epochs", "batch_size", "learning_rate", "num_workers", "device", "seed",
        "encoder", "resume",
    },
    "search_sparsity.yaml": {"dataset_dir", "output_dir", "num_workers", "device", "seed"},
    "encode.yaml": {"slides", "output_dir", "batch_size", "num_workers", "device", "encoder", "resume"},
    "train.yaml": {
        "dataset_dir", "output_dir", "max_epochs", "batch_size", "learning_rate", "num_workers", "device", "seed",
        "resume",
    },
    "inference.yaml": {
        "slides", "dataset_dir", "output_dir", "batch_size", "num_workers", "device", "seed", "encoder", "resume",
    },
    "split.yaml": {"slides", "output_dir", "seed"},
    "report.yaml": {"slides", "output_dir", "seed"},
    "compare_masks.yaml": {"slides", "output_dir"},
    "scae_panels.yaml": {"dataset_dir", "output_dir", "device", "encoder"},
    "compare.yaml": {"slides", "output_dir", "seed"},
    "localise.yaml": {"slides", "dataset_dir", "output_dir", "seed"},
    "ablate.yaml": {
        "slides", "dataset_dir", "output_dir", "max_epochs", "batch_size", "learning_rate", "num_workers", "device",
    },
    "compare_methods.yaml": {"dataset_dir", "output_dir", "max_epochs", "batch_size", "learning_rate", "device"},
    "kfold.yaml": {
        "dataset_dir", "output_dir", "max_epochs", "batch_size", "learning_rate", "num_workers", "device", "seed",
    },
}  # fmt: skip
"""Names that mean the same in every stage."""


@pytest.mark.parametrize("name", ["train.yaml", "train_scae.yaml", "inference.yaml", "multi_gpu_train.yaml"])
def test_the_seed_is_set_whatever_the_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the code does not lie in ``bundle_root``, a seed that is no number is left to the run list."""
    monkeypatch.chdir(tmp_path)
    for seed in (7, 8.0, "ten"):
        parser = workflow(*files_of(name), run_id="run", bundle_root=".", seed=seed).parser
        try:
            parser.get_parsed_content(f"initialize::{len(parser['initialize']) - 1}")
            assert (torch.initial_seed() == seed) == (seed != "ten")
        finally:
            set_determinism(seed=None)


def test_a_seed_of_the_wrong_kind_with_a_wrong_bundle_root_ends_in_one_line(tmp_path: Path) -> None:
    words = ["training", "--config_file", str(CONFIGS / "train.yaml"), "--seed", "ten"]
    result = command_server().run("-m", "monai.bundle", "run", *words, cwd=tmp_path)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == "error: --seed 'ten': expected a whole number from 0 to 4294967295"


def parsed(name: str) -> ConfigParser:
    """Parse a file, an overlay with the files it lies on."""
    return ConfigParser(ConfigParser.load_config_files([str(CONFIGS / part) for part in files_of(name)]))


def files_of(name: str) -> tuple[str, ...]:
    """A config and those that it lies on, first the stage's own."""
    return (*files_of(OVERLAYS[name]), name) if name in OVERLAYS else (name,)


def values(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return every leaf of a config by its id."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else None
    if items is None:
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= values(value, f"{prefix}::{key}" if prefix else str(key))
    return found


def test_every_file_is_known() -> None:
    assert set(FILES) <= set(ENTRIES)


@pytest.mark.parametrize("name", FILES)
def test_references_and_targets_resolve(name: str) -> None:
    """Every ``@id`` and ``%id`` names something, every ``_target_`` is importable."""
    parser = parsed(name)
    parser.parse()
    leaves = values(parser.config)
    assert len(leaves) > 5
    components = ComponentLocator()
    for identifier, value in leaves.items():
        if not isinstance(value, str):
            continue
        if identifier.endswith("_target_"):
            known = locate(value) if "." in value else components.get_component_module_name(value)
            assert known is not None, f"{identifier}: {value}"
        elif value.startswith(("$", "@")):
            for reference in ReferenceResolver.match_refs_pattern(value):
                assert reference in parser, f"{identifier}: {value}"


@pytest.mark.parametrize("name", FILES)
def test_run_lists(name: str) -> None:
    """What the contract says can be run is there, begins with the check of the options, and ``run`` is the same."""
    parser = parsed(name)
    for entry in ENTRIES[name]:
        assert entry in parser, entry
    if name == "demo_data.yaml":  # one component, no list
        return
    parser.parse()
    for entry in ENTRIES[name]:
        assert parser[entry][0] == "$@options()"
    assert len({json.dumps(parser[entry]).replace("::", "#") for entry in ENTRIES[name]}) == 1


@pytest.mark.parametrize("name", sorted(COMMON_OPTIONS))
def test_common_options_are_at_the_top(name: str) -> None:
    assert COMMON_OPTIONS[name] <= set(parsed(name).config)


def test_defaults_of_the_paper() -> None:
    train = parsed("train.yaml").config
    assert (train["max_epochs"], train["learning_rate"], train["optimizer"]["weight_decay"]) == (200, 1e-4, 1e-5)
    assert (train["network_def"]["head"], train["evaluated"]["share"]) == ("slide", None)
    scae = parsed("train_scae.yaml")
    scae_of_paper = [
        scae.get_parsed_content(name) for name in ("objective", "max_epochs", "batch_size", "learning_rate")
    ]
    assert scae_of_paper == ["paper", 6, 8, 0.03]
    draw = parsed("sample.yaml").config["draw"]
    assert (draw["slides_per_class"], draw["patches_per_slide"], draw["rich_share"]) == (20, 600, 0.9)


@pytest.mark.parametrize(
    "files", [("train.yaml",), ("train.yaml", "evaluate.yaml"), ("train.yaml", "recommended.yaml")], ids=str
)
def test_properties_of_training(files: tuple[str, ...], flow: TinyFlow, tmp_path: Path) -> None:
    model = flow.model if "evaluate.yaml" in files else tmp_path / "model.pt"
    options = {"dataset_dir": flow.dataset, "output_dir": tmp_path, "model": model, **ON_CPU}
    stage = workflow(*files, run_id="run", **options)
    stage.initialize()
    assert stage.check_properties() == []
    set_determinism(seed=None)


def test_properties_of_inference(flow: TinyFlow, tmp_path: Path) -> None:
    options = {"output_dir": tmp_path / "out", **flow.trained, **ON_CPU}
    stage = workflow("inference.yaml", run_id="run", workflow_type="infer", **options)
    stage.initialize()
    assert stage.check_properties() == []
    assert isinstance(stage.network_def, DSNet)
    set_determinism(seed=None)


def test_properties_of_inference_on_a_fresh_bundle(tmp_path: Path) -> None:
    """No weights and no slides: whoever looks at the bundle gets its network, and nothing is written."""
    fresh = tmp_path / "bundle"
    shutil.copytree(BUNDLE / "configs", fresh / "configs")
    stage = workflow("inference.yaml", run_id="run", workflow_type="infer", bundle_root=fresh, **ON_CPU)
    stage.initialize()
    set_determinism(seed=None)
    assert stage.check_properties() == []
    assert list(stage.dataset) == []
    assert stage.network_def(torch.ones(1, 164, 16, 16)).shape == (1, 2)
    assert [path.name for path in fresh.iterdir()] == ["configs"]


def test_a_misspelt_option_is_refused(tmp_path: Path) -> None:
    options = {"dataset_dir": tmp_path, "max_epoch": 1, "output_dir": tmp_path / "log"}
    result = run_command("training", "train.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 2, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: unknown option --max_epoch, the nearest known one is --max_epochs")
    assert not list(tmp_path.iterdir())


def test_missing_slides_are_a_wrong_request(flow: TinyFlow, tmp_path: Path) -> None:
    options = {"output_dir": tmp_path / "out", **flow.trained}
    result = run_command("inference", "inference.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 2, result.stderr
    assert "--slides" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("files", "run_id", "missing", "message"),
    [
        (("inference.yaml",), "inference", "model", "expected the weights that train.yaml writes"),
        (("inference.yaml",), "inference", "encoder", "expected the weights that train_scae.yaml writes"),
        (("encode.yaml",), "encoding", "encoder", "expected the weights that train_scae.yaml writes"),
        (("encode.yaml",), "encoding", "slides", "no slides given"),
        (("train.yaml",), "training", "dataset_dir", "expected the slide table beside the embeddings"),
        (("train.yaml", "evaluate.yaml"), "evaluating", "model", "expected the weights that train.yaml writes"),
        (("train_scae.yaml",), "training", "dataset_dir", "expected a file of patches"),
        (("search_sparsity.yaml",), "searching", "dataset_dir", "expected a file of patches"),
    ],
)
def test_a_missing_input_writes_nothing(
    flow: TinyFlow, tmp_path: Path, files: tuple[str, ...], run_id: str, missing: str, message: str
) -> None:
    available = {
        "slides": str(flow.slides),
        "dataset_dir": str(flow.patches if files[0] in ("train_scae.yaml", "search_sparsity.yaml") else flow.dataset),
        **flow.trained,
    }
    options: dict[str, Any] = {name: value for name, value in available.items() if name in parsed(files[-1]).config}
    if files == ("inference.yaml",):
        del options["dataset_dir"]
    if files[0] == "train.yaml":
        del options["slides"]
    options[missing] = None if missing == "slides" else str(tmp_path / "gone" / "x.pt")
    with pytest.raises(RuntimeError) as caught:
        run_config(*files, run_id=run_id, output_dir=tmp_path / "out", **options, **ON_CPU)
    assert message in str(cause_of(caught.value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["preprocessing", "postprocessing"])
def test_monai_deploy_finds_its_transforms(name: str) -> None:
    """Its operator takes the two by name, and goes over the ``transforms`` of each."""
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "inference.yaml"))
    assert parser[f"{name}#_target_"] == "Compose" and parser[f"{name}#transforms"]


def test_network_fits_the_metadata() -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.yaml"),
        n=2,
        device="cpu",
        bundle_root=str(BUNDLE),
    )


@pytest.mark.parametrize("files", [("train.yaml",), ("train.yaml", "recommended.yaml")], ids=str)
def test_exported_network_gives_the_same_logits(files: tuple[str, ...], tmp_path: Path) -> None:
    """Trained with other features than the default, so that the export must follow the model card."""
    dataset = write_dataset(tmp_path / "data")
    model = tmp_path / "model.pt"
    folders = {"dataset_dir": dataset, "output_dir": tmp_path / "log", "model": model}
    run_config(*files, run_id="training", max_epochs=1, batch_size=2, **folders, **ON_CPU)
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(model),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=[str(CONFIGS / "inference.yaml")],
        key_in_ckpt="",
        bundle_root=str(BUNDLE),
        model=str(model),
        device="cpu",
    )
    network = network_from_card(read_card(model)).eval()
    network.load_state_dict(torch.load(model, weights_only=True))
    exported = torch.jit.load(tmp_path / "model.ts").eval()
    set_determinism(seed=None)
    image = torch.rand(2, CHANNELS + 36, 12, 16)
    image[:, :CHANNELS, 5:7] = 0
    with torch.inference_mode():
        torch.testing.assert_close(exported(image), network(image))


def test_warm_up_starts_at_the_papers_rate(flow: TinyFlow, tmp_path: Path) -> None:
    """Whatever the learning rate, the first epoch runs at 1e-6."""
    for rate in (1e-4, 1e-3):
        options = {"dataset_dir": flow.dataset, "output_dir": tmp_path, "learning_rate": rate, **ON_CPU}
        stage = workflow("train.yaml", run_id="run", **options)
        stage.initialize()
        stage.parser.get_parsed_content("lr_scheduler")
        assert stage.parser.get_parsed_content("optimizer").param_groups[0]["lr"] == pytest.approx(1e-6)
    set_determinism(seed=None)


def test_comments_name_the_paper() -> None:
    """A config is the recipe: each begins with what it makes and the command that runs it."""
    for name in FILES:
        text = (CONFIGS / name).read_text(encoding="utf-8")
        assert text.startswith("# "), name
        assert re.search(r"^# +(python|torchrun|#).*-m monai\.bundle run", text, re.MULTILINE), name
