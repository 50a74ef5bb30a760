import json
from collections.abc import Sized
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scae.random_textures import random_textures
from tiny_flow import ON_CPU, read_rows, run_config

from scripts.common.errors import RequestError
from scripts.scae import searching
from scripts.scae.rate_search import Measured
from scripts.scae.scae_network import SCAE
from scripts.scae.searching import measure

PATCHES = 16
PATCH_UM = 48.0


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of patches."""
    folder = tmp_path_factory.mktemp("patches")
    pixels = (random_textures(PATCHES) * 255).byte().permute(0, 2, 3, 1).numpy()
    with h5py.File(folder / "patches.h5", "w") as file:
        file.attrs["format"] = "dsnet-patches/1"
        file.attrs["settings"] = json.dumps({"patch_um": PATCH_UM})
        file["patches"] = pixels
        file["coords"] = np.zeros((PATCHES, 2), dtype=np.int64)
        file["rich"] = np.zeros(PATCHES, dtype=bool)
        file["slide_id"] = ["slide"] * PATCHES
    return folder


def run_search(patches: Path, output: Path, **options: object) -> None:
    steps = {"training_steps": 1, "measured_patches": 8, "max_steps": 2, **options}
    run_config("search_sparsity.yaml", run_id="searching", dataset_dir=patches, output_dir=output, **steps, **ON_CPU)


@pytest.mark.parametrize("objective", ["paper", "extended"])
def test_log_plot_choice_and_the_weights_of_every_step(
    patches: Path, tmp_path: Path, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def measured(network: SCAE, subset: Sized, *, patch_um: float, device: torch.device) -> Measured:
        assert (len(subset), patch_um) == (8, PATCH_UM)
        trained.append(network)
        return Measured(5000.0 - 1000 * len(trained), 0.01, 0.1, 1.0)

    monkeypatch.setattr(searching, "measure", measured)
    run_search(patches, tmp_path, objective=objective, nuclei_per_mm2=1000)
    rows = read_rows(tmp_path / "sparsity.csv")
    assert [(float(row["sparsity_rate"]), row["verdict"]) for row in rows] == [
        (70.0, "too many: higher"),
        (84.75, "too many: higher"),
    ]
    assert list(rows[0]) == [
        *("step", "sparsity_rate", "nuclei_per_mm2", "error", "most_error", "active_share", "darkness"),
        *("low", "high", "verdict"),
    ]
    choice = json.loads((tmp_path / "sparsity.json").read_text())
    assert (choice["sparsity_rate"], choice["prior_nuclei_per_mm2"]) == (84.75, 1000)
    with Image.open(tmp_path / "sparsity.png") as plot:
        assert plot.width > 400
    for network, rate in zip(trained, ("70.00", "84.75"), strict=True):
        assert network.detect.sparsity_rate == float(rate)
        weights = torch.load(tmp_path / f"rho_{rate}" / "scae.pt", weights_only=True)
        assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


def test_a_stopped_search_leaves_its_steps(patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [Measured(9000.0, 0.01, 0.1, 1.0), Measured(8000.0, 0.01, 0.1, 1.0)]

    def measured(*_: object, **__: object) -> Measured:
        if not steps:
            raise MemoryError("stopped")
        return steps.pop(0)

    monkeypatch.setattr(searching, "measure", measured)
    with pytest.raises(RuntimeError):
        run_search(patches, tmp_path, nuclei_per_mm2=1000, max_steps=3)
    rows = read_rows(tmp_path / "sparsity.csv")
    assert [(row["step"], float(row["nuclei_per_mm2"]), row["verdict"]) for row in rows] == [
        ("0", 9000, "too many: higher"),
        ("1", 8000, "too many: higher"),
    ]
    assert {path.name for path in tmp_path.glob("[!.]*") if path.is_file()} == {"sparsity.csv"}


def test_same_seed_same_search(patches: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_search(patches, tmp_path / name)
    assert (tmp_path / "a" / "sparsity.csv").read_text() == (tmp_path / "b" / "sparsity.csv").read_text()


def test_density_is_maxima_over_area() -> None:
    """A detection map that copies the trunk's first channel, and a trunk with three peaks in every patch."""
    torch.manual_seed(0)
    scae = SCAE()
    peaks = torch.zeros(1, 128, 28, 28)
    for row, column in ((3, 3), (10, 20), (27, 0)):
        peaks[0, 0, row, column] = 1.0
    scae.trunk = torch.nn.Identity()  # type: ignore[assignment]
    scae.detect.detection = lambda trunk: trunk[:, :1]  # type: ignore[method-assign]
    scae.detect.threshold.fill_(0.5)
    scae.forward = lambda images: images  # type: ignore[method-assign,assignment]
    data = [{"image": 255 * peaks[0]} for _ in range(4)]
    measured = measure(scae, data, patch_um=64.0, device=torch.device("cpu"))  # type: ignore[arg-type]
    assert measured.nuclei_per_mm2 == pytest.approx(3 / 0.064**2)
    assert measured.active_share == pytest.approx(3 / 28**2)
    assert measured.error == 0
    assert measured.darkness < 0  # the peaks are bright


def test_mixed_has_no_rate() -> None:
    with pytest.raises(RequestError, match="mixed"):
        measure(SCAE(strategy="mixed"), [], patch_um=64.0, device=torch.device("cpu"))  # type: ignore[arg-type]
