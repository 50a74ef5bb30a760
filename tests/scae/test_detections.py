import torch

from scripts.scae.detections import local_maxima


def test_maxima_above_the_threshold_and_apart() -> None:
    detection = torch.zeros(1, 1, 10, 10)
    detection[0, 0, 2, 3], detection[0, 0, 2, 4] = 2.0, 1.9  # one nucleus
    detection[0, 0, 9, 9] = 1.0  # at the corner
    detection[0, 0, 6, 6] = 0.4  # too low
    found = local_maxima(detection, threshold=0.5)[0, 0].nonzero().tolist()
    assert found == [[2, 3], [9, 9]]


def test_reach_decides_how_near_two_may_be() -> None:
    detection = torch.zeros(1, 1, 5, 9)
    detection[0, 0, 2, 2], detection[0, 0, 2, 4] = 2.0, 1.0
    counts = [int(local_maxima(detection, threshold=torch.tensor(0.5), reach=reach).sum()) for reach in (1, 2)]
    assert counts == [2, 1]


def test_images_of_a_batch_are_apart() -> None:
    detection = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    together = local_maxima(detection, threshold=0.5)
    alone = torch.cat([local_maxima(one[None], threshold=0.5) for one in detection])
    assert torch.equal(together, alone)
