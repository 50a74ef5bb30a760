from pathlib import Path

import numpy as np
import pytest
from nuclei import Annotated, DetectionMap, Maxima, haematoxylin_blobs, matched, score, tuned

from scripts.common.files import atomic_path
from scripts.scae.network import SCAE

POINTS = np.array([(10.0, 10.0), (30.0, 30.0), (50.0, 10.0)])


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ([(10.0, 15.9), (30.0, 30.0)], 2),
        ([(10.0, 16.1)], 0),
        ([(10.0, 9.0), (10.0, 11.0)], 1),  # two detections of one nucleus
        ([(20.0, 20.0)], 0),
        (np.empty((0, 2)), 0),
    ],
)
def test_a_detection_is_right_within_6_um_of_a_nucleus_of_its_own(found: object, right: int) -> None:
    assert matched(np.array(found).reshape(-1, 2), POINTS) == right


def test_as_many_pairs_as_there_can_be() -> None:
    """The nearest nucleus of both is the first; taken by the wrong one it would leave the other without."""
    real = np.array([(0.0, 0.0), (0.0, 5.5)])
    assert matched(np.array([(0.0, 2.0), (0.0, -1.0)]), real) == 2


def image(points: np.ndarray = POINTS) -> Annotated:
    """Dark blue discs of 6 um on pink."""
    y, x = np.mgrid[:120, :120] * 0.5
    disc = (np.hypot(y - points[:, 0, None, None], x - points[:, 1, None, None]) < 3).any(axis=0)
    return Annotated("a", np.where(disc[..., None], (70, 50, 130), (235, 190, 215)).astype(np.uint8), points)


def test_f1_over_images() -> None:
    found = score([POINTS[:2], POINTS[:1] + 40], [image(), image(POINTS[:1])])
    assert (found.right, found.found, found.real) == (2, 3, 4)
    assert found.f1 == pytest.approx(4 / 7)


def test_blobs_are_nuclei() -> None:
    best = tuned(haematoxylin_blobs, [image()], [2.0], [4.0])
    assert best["f1"] == 1
    found = haematoxylin_blobs(image(), 2.0, 4.0).above(best["threshold"])
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(POINTS, axis=0), atol=0.6)


def test_the_threshold_is_tuned() -> None:
    """Of five maxima the three highest are nuclei."""
    maxima = Maxima(np.concatenate([POINTS, POINTS[:2] + 45.0]), np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    best = tuned(lambda *_: maxima, [image()], [0.0], [4.0])
    assert best["f1"] == 1 and 2 <= best["threshold"] < 3


def test_detection_map_lies_on_the_image(tmp_path: Path) -> None:
    """A map of locations of 2.3 um; its negative swaps maxima and minima."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = SCAE().train()
    network(torch.rand(4, 3, 112, 112))
    with atomic_path(tmp_path / "scae.pt") as partial:
        torch.save(network.state_dict(), partial)
    one, other = (DetectionMap(tmp_path / "scae.pt", sign=sign) for sign in (1, -1))
    np.testing.assert_array_equal(one.map(image()), -other.map(image()))
    side_um = 60.0
    for detector in (one, other):
        found = detector(image(), 0.0, 2.3).points
        assert len(found) and (found > 0).all() and (found < side_um + 2.3).all()
