from pathlib import Path

import h5py
import numpy as np
import pytest
from ignite.engine import Engine
from training.embedding_files import CHANNELS, write_embedding

from scripts.dsnet.network import DSNet
from scripts.encoding.checksums import seal
from scripts.encoding.embedding_file import read_embedding
from scripts.training.standardise import ChannelStatistics, Standardisation, channel_statistics, fit_standardisation


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three slides of different size and mean; the last channel never varies."""
    return [
        write_embedding(tmp_path / f"{index}.h5", shape_yx=(3 + index, 4), mean=100.0 * index, seed=index, last=5.0)
        for index in range(3)
    ]


def statistics(paths: list[Path], first: int = 0, last: int = CHANNELS) -> list[ChannelStatistics]:
    return [channel_statistics(read_embedding(path).features[:, first:last]) for path in paths]


def test_all_observed_patches_count_alike(paths: list[Path]) -> None:
    network = DSNet(embedding_channels=CHANNELS)
    fit_standardisation(network, statistics(paths))
    features = []
    for path in paths:
        with h5py.File(path) as file:
            features.append(file["features"][:].astype(np.float64))
    together = np.concatenate(features)
    deviation = together.std(axis=0)
    deviation[-1] = 1.0
    np.testing.assert_allclose(network.standardise.mean.numpy().ravel(), together.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(network.standardise.deviation.numpy().ravel(), deviation, rtol=1e-6)


def test_a_range_of_channels_and_a_patch_that_has_none(paths: list[Path]) -> None:
    """The channels 2 to 4; a patch that is zero in all of them is not observed, so it does not count."""
    with h5py.File(paths[0], "r+") as file:
        file["features"][0, 2:4] = 0.0
        seal(file)
    network = DSNet(embedding_channels=2)
    fit_standardisation(network, statistics(paths, 2, 4))
    features = []
    for path in paths:
        with h5py.File(path) as file:
            features.append(file["features"][:, 2:4].astype(np.float64))
    mean = np.concatenate(features)[1:].mean(axis=0)
    np.testing.assert_allclose(network.standardise.mean.numpy().ravel(), mean, rtol=1e-6)


@pytest.mark.parametrize("enabled", [True, False])
def test_it_is_fitted_when_a_training_begins(paths: list[Path], enabled: bool) -> None:
    network = DSNet(embedding_channels=CHANNELS)
    engine = Engine(lambda engine, batch: None)
    engine.network = network
    Standardisation(lambda: statistics(paths), enabled=enabled).attach(engine)
    assert (network.standardise.mean == 0).all() and (network.standardise.deviation == 1).all()
    engine.run([0])
    assert (network.standardise.mean != 0).any() == enabled


def test_the_statistics_travel_with_the_weights(paths: list[Path]) -> None:
    network, fresh = DSNet(embedding_channels=CHANNELS), DSNet(embedding_channels=CHANNELS)
    fit_standardisation(network, statistics(paths))
    fresh.load_state_dict(network.state_dict())
    assert (fresh.standardise.mean != 0).all()
