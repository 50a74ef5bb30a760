from pathlib import Path

import h5py
import numpy as np
import pytest
from training.embedding_files import CHANNELS, write_embedding

from scripts.dsnet.network import DSNet
from scripts.training.standardise import fit_standardisation


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, str]]:
    """Three slides of different size and mean; the last channel never varies."""
    paths = [
        write_embedding(tmp_path / f"{index}.h5", shape_yx=(3 + index, 4), mean=100.0 * index, seed=index, last=5.0)
        for index in range(3)
    ]
    return [{"embedding": str(path), "channel_range": [0, CHANNELS]} for path in paths]


def test_all_observed_patches_count_alike(items: list[dict[str, str]]) -> None:
    network = fit_standardisation(DSNet(embedding_channels=CHANNELS), items)
    features = []
    for item in items:
        with h5py.File(item["embedding"]) as file:
            features.append(file["features"][:].astype(np.float64))
    together = np.concatenate(features)
    deviation = together.std(axis=0)
    deviation[-1] = 1.0
    np.testing.assert_allclose(network.standardise.mean.numpy().ravel(), together.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(network.standardise.deviation.numpy().ravel(), deviation, rtol=1e-6)


def test_a_range_of_channels_and_a_patch_that_has_none(items: list[dict[str, str]]) -> None:
    """The channels 2 to 4; a patch that is zero in all of them is not observed, so it does not count."""
    with h5py.File(items[0]["embedding"], "r+") as file:
        file["features"][0, 2:4] = 0.0
        del file.attrs["format"]  # so that the checksum is not asked for
    network = fit_standardisation(DSNet(embedding_channels=2), [{**item, "channel_range": [2, 4]} for item in items])
    features = []
    for item in items:
        with h5py.File(item["embedding"]) as file:
            features.append(file["features"][:, 2:4].astype(np.float64))
    mean = np.concatenate(features)[1:].mean(axis=0)
    np.testing.assert_allclose(network.standardise.mean.numpy().ravel(), mean, rtol=1e-6)


def test_may_be_left_out(items: list[dict[str, str]]) -> None:
    network = fit_standardisation(DSNet(embedding_channels=CHANNELS), items, enabled=False)
    assert (network.standardise.mean == 0).all()
    assert (network.standardise.deviation == 1).all()


def test_the_statistics_travel_with_the_weights(items: list[dict[str, str]]) -> None:
    state = fit_standardisation(DSNet(embedding_channels=CHANNELS), items).state_dict()
    fresh = DSNet(embedding_channels=CHANNELS)
    fresh.load_state_dict(state)
    assert (fresh.standardise.mean != 0).all()
