from pathlib import Path

import numpy as np
import pytest
import torch
from nuclei import Annotated, DetectionMap, Maxima, Score, haematoxylin_blobs, matched, row, score, tuned

from scripts.common.files import atomic_path
from scripts.scae.scae_network import SCAE

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


def image(points: np.ndarray = POINTS, *, shape_px: tuple[int, int] = (120, 120)) -> Annotated:
    """Dark blue discs of 6 um on pink."""
    y, x = (np.indices(shape_px) + 0.5) * 0.5
    disc = (np.hypot(y - points[:, 0, None, None], x - points[:, 1, None, None]) < 3).any(axis=0)
    return Annotated("a", np.where(disc[..., None], (70, 50, 130), (235, 190, 215)).astype(np.uint8), points)


def test_f1_over_images() -> None:
    found = score([POINTS[:2], POINTS[:1] + 40], [image(), image(POINTS[:1])])
    assert (found.right.tolist(), found.found.tolist(), found.real.tolist()) == ([2, 0], [2, 1], [3, 1])
    assert found.f1 == pytest.approx(4 / 7)


def test_the_interval_is_over_images(capsys: pytest.CaptureFixture[str]) -> None:
    """Of four images one is without a right detection: resamples hold it 0 to 4 times, once on average."""
    four = np.full(4, 10)
    found = Score(np.array([10, 10, 10, 0]), four, four)
    share = np.random.default_rng(1).binomial(4, 0.25, 100_000) / 4
    assert found.interval == pytest.approx(np.percentile(1 - share, (2.5, 97.5)))
    alike = Score(four, four, four)
    assert alike.interval == (1, 1)
    row("a detector", 0.8, found, "0, 2.3")
    assert capsys.readouterr().out == "| a detector | 0.800 | 0.750 (0.250-1.000) | 0.750 | 0.750 | 0, 2.3 |\n"


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


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an S-CAE that saw one batch."""
    torch.manual_seed(0)
    network = SCAE().train()
    network(torch.rand(4, 3, 112, 112))
    path = tmp_path_factory.mktemp("weights") / "scae.pt"
    with atomic_path(path) as partial:
        torch.save(network.state_dict(), partial)
    return path


def test_the_negative_swaps_maxima_and_minima(weights: Path) -> None:
    one, other = (DetectionMap(weights, sign=sign) for sign in (1, -1))
    np.testing.assert_array_equal(one.map(image()), -other.map(image()))


def test_detection_map_lies_on_the_image(weights: Path) -> None:
    """A nucleus on the middle of a location (2.3 um), in an image wider than high whose sides are no whole number of locations."""
    place = np.array([[24.0, 72.0]])
    detector = DetectionMap(weights)
    detector.network.trunk = torch.nn.AvgPool2d(4)  # type: ignore[assignment]
    detector.network.detect.detection = lambda trunk: 1 - trunk.mean(dim=1, keepdim=True)  # type: ignore[method-assign]
    detector.network.detect.threshold.fill_(0.5)
    wide = image(place, shape_px=(120, 201))
    for smoothing_um in (0.0, 1.5):
        maxima = detector(wide, smoothing_um, 2.3)
        np.testing.assert_allclose(maxima.points[maxima.heights.argmax()], place[0], atol=0.1)
    np.testing.assert_allclose(detector.untuned(wide), place, atol=0.1)
