"""What the MONAI model zoo asks of a bundle, asked of our zip in an environment that holds only the packages it declares.

    python tools/verify_package.py dist/pathology_wsi_dsnet_classification_v0.1.0.zip

Makes a virtual environment, installs what ``metadata.json`` names, unpacks the zip, and runs each check there as a process of its own:
those of the zoo's ``ci/verify_bundle.py`` (files, version, properties, shapes, TorchScript), then ``monai.bundle.load``,
``monai.bundle run`` and ``ConfigWorkflow`` on a slide; last, with the packages that the checks themselves need (`TOOLS`), the
metadata's schema and the ONNX export. Prints a line a check; exit code 1 if one failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SCHEMA = REPO / "tests" / "schema" / "meta_schema_20240725.json"
FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.json",
    "configs/train.json",
    "models/model.pt",
    "models/model.ts",
    "docs/README.md",
)
TOOLS = ("jsonschema", "onnx", "onnxruntime", "onnxscript")
MAX_FILE_MIB = 25  # of the zoo
CONFIG = ("--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json")
NETWORK = ("--net_id", "network_def", *CONFIG)
CHECKPOINT = (*NETWORK, "--ckpt_file", "models/model.pt")
ONNX_OPTIONS = (
    "--use_trace",
    "True",  # else MONAI leaves "dynamo" out, and torch takes its other exporter, which needs twenty times as long
    "--converter_kwargs",
    "{'input_names': ['image'], 'output_names': ['pred'], 'dynamo': False, 'opset_version': 18, "
    "'dynamic_axes': {'image': {0: 'batch', 2: 'rows', 3: 'columns'}, 'pred': {0: 'batch'}}}",
)

PROPERTIES = """
from monai.bundle import create_workflow
workflow = create_workflow(workflow_type="inference", bundle_root=".", config_file="configs/inference.json",
                           logging_file="configs/logging.conf", meta_file="configs/metadata.json")
missing = workflow.check_properties()
assert not missing, missing
"""
EXPORTS = """
import json, numpy, onnxruntime, torch
from scripts.training.card import load_model, network_from_card, read_card
card = read_card("models/model.pt")
network = load_model(network_from_card(card), "models/model.pt", card).eval()
session = onnxruntime.InferenceSession("models/verify_model.onnx")
metadata = json.load(open("configs/metadata.json", encoding="utf-8"))
channels, total = card.network["embedding_channels"], metadata["network_data_format"]["inputs"]["image"]["num_channels"]
for shape in ((1, 16, 16), (2, 37, 53), (1, 9, 7)):
    torch.manual_seed(0)
    image = torch.rand(shape[0], total, *shape[1:])
    image[:, :channels] *= torch.rand(shape[0], 1, *shape[1:]) < 0.4
    with torch.inference_mode():
        expected = network(image)
        for name in ("model.ts", "verify_model.ts"):
            torch.testing.assert_close(torch.jit.load("models/" + name, map_location="cpu").eval()(image), expected)
    (found,) = session.run(None, {"image": image.numpy()})
    numpy.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
"""
LOAD = """
import sys
import torch
from pathlib import Path
from monai.bundle import load
here = Path(sys.argv[1])
assert str(here) not in sys.path
name = here.name
weights = torch.load(here / "models/model.pt", weights_only=True)
for workflow in ({}, {"workflow_type": "inference"}):  # train.json, MONAI's default, and inference.json
    network = load(name, bundle_dir=here.parent, device="cpu", **workflow)
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
scripted, metadata, _ = load(name, bundle_dir=here.parent, load_ts_module=True, device="cpu")
image = torch.rand(1, metadata["network_data_format"]["inputs"]["image"]["num_channels"], 16, 16)
with torch.inference_mode():
    torch.testing.assert_close(scripted.eval()(image), network.eval()(image))
"""
WORKFLOW = """
import csv, sys
from monai.bundle import ConfigWorkflow
workflow = ConfigWorkflow(workflow_type="inference", config_file=f"{sys.argv[1]}/configs/inference.json",
                          slides="slides/slides/test_001.tif", output_dir="workflow")
workflow.initialize()
workflow.run()
workflow.finalize()
read = lambda path: [{**row} for row in csv.DictReader(open(path))]
ours, theirs = read("workflow/predictions.csv"), read("predictions/predictions.csv")
assert len(ours) == 1 and ours == theirs, (ours, theirs)
"""


def main() -> None:
    """Run every check; leave with 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zip", type=Path)
    parser.add_argument("--python", default=sys.executable, help="what makes the environment")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = unpack(arguments.zip, Path(scratch))
        python = make_environment(arguments.python, root, Path(scratch) / "environment")
        failed = run_checks(root, python)
        add_tools(python)
        sys.exit(1 if failed + run_tool_checks(root, python) else 0)


def unpack(archive: Path, scratch: Path) -> Path:
    """Unpack the zip and return the bundle's folder."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(scratch)
    (root,) = (path for path in scratch.iterdir() if path.is_dir())
    return root


def make_environment(python: str, root: Path, folder: Path) -> Path:
    """Make an environment with the declared packages and nothing else; return its interpreter."""
    metadata = json.loads((root / "configs/metadata.json").read_text(encoding="utf-8"))
    declared = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    declared |= metadata["required_packages_version"]
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    own = folder / "bin" / "python"
    print(f"== installing {len(declared)} packages into an empty environment", flush=True)
    names = [f"{name}=={version}" for name, version in declared.items()]
    subprocess.run([str(own), "-m", "pip", "install", "--quiet", *names], check=True)
    return own


def add_tools(python: Path) -> None:
    """Install `TOOLS`, as pinned for the tests."""
    words = ["-m", "pip", "install", "--quiet", "-c", str(REPO / "constraints.txt"), *TOOLS]
    subprocess.run([str(python), *words], check=True)


def run_checks(root: Path, python: Path) -> list[str]:
    """Run the checks in order and return the titles of those that failed."""
    outside = root.parent
    bundle = ("-W", "ignore", "-m", "monai.bundle")
    generate = ("--bundle_root", str(root), "--config_file", str(root / "configs/demo_data.yaml"))
    classify = ("--bundle_root", str(root), "--config_file", str(root / "configs/inference.json"))
    plan: list[tuple[str, Path, tuple[str, ...]]] = [
        ("properties of the inference workflow", root, ("-W", "ignore", "-c", PROPERTIES)),
        ("shapes of input and output", root, (*bundle, "verify_net_in_out", *NETWORK)),
        ("TorchScript export", root, (*bundle, "ckpt_export", *CHECKPOINT, "--filepath", "models/verify_model.ts")),
        ("monai.bundle.load, from another folder", outside, ("-W", "ignore", "-c", LOAD, str(root))),
        (
            "run generating, from another folder", outside,
            (*bundle, "run", "generating", *generate, "--output_dir", "slides", "--train", "2", "--val", "2", "--test", "2"),
        ),
        (
            "run inference, from another folder", outside,
            (*bundle, "run", "inference", *classify, "--slides", "slides/slides/test_001.tif", "--output_dir", "predictions"),
        ),
        ("ConfigWorkflow gives the same prediction, from another folder", outside, ("-W", "ignore", "-c", WORKFLOW, str(root))),
    ]  # fmt: skip
    found = {"files": check_files(root), "version stands in the changelog": check_version(root)}
    return [title for title, faults in found.items() if not report(title, faults)] + run_plan(plan, python)


def run_tool_checks(root: Path, python: Path) -> list[str]:
    """The same for the checks that need `TOOLS`."""
    bundle = ("-W", "ignore", "-m", "monai.bundle")
    export = ("onnx_export", *CHECKPOINT, "--filepath", "models/verify_model.onnx", *ONNX_OPTIONS)
    plan = [
        ("metadata follows its schema", root, (*bundle, "verify_metadata", *CONFIG[:2], "--filepath", str(SCHEMA))),
        ("ONNX export", root, (*bundle, *export)),
        ("TorchScript and ONNX give torch's scores", root, ("-c", EXPORTS)),
    ]
    return run_plan(plan, python)


def run_plan(plan: list[tuple[str, Path, tuple[str, ...]]], python: Path) -> list[str]:
    """Run processes (title, folder, arguments) and return the titles of those that failed."""
    failed = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for title, folder, words in plan:
        result = subprocess.run(
            [str(python), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        faults = [] if result.returncode == 0 else [f"exit code {result.returncode}", result.stdout, result.stderr]
        failed += [title] if not report(title, faults) else []
    return failed


def check_files(root: Path) -> list[str]:
    """What is missing or too large."""
    faults = [f"no {name}" for name in FILES if not (root / name).is_file()]
    sizes = {path: path.stat().st_size / 2**20 for path in root.rglob("*") if path.is_file()}
    return faults + [
        f"{path.name}: {size:.1f} MiB, over {MAX_FILE_MIB}" for path, size in sizes.items() if size > MAX_FILE_MIB
    ]


def check_version(root: Path) -> list[str]:
    """Whether the changelog knows the version."""
    metadata = json.loads((root / "configs/metadata.json").read_text(encoding="utf-8"))
    return [] if metadata["version"] in metadata["changelog"] else [f"no entry for {metadata['version']}"]


def report(title: str, faults: list[str]) -> bool:
    """Print the line of a check; True where it passed."""
    print(f"{'failed' if faults else 'passed'}  {title}", *faults, sep="\n        ", flush=True)
    return not faults


if __name__ == "__main__":
    main()
