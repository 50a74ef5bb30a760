"""Under several processes the norm sees one batch: gradients and running statistics are those of one process, in float64."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from random_matrices import random_image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from scripts.dsnet.network import DSNet

LABELS = torch.tensor([0, 1, 1, 0])
SHAPES = [(9, 8), (5, 6), (8, 3), (7, 8)]
STEPS = 3


def batch() -> Tensor:
    """Four slides of different size and share of observed patches, padded."""
    images = torch.zeros(4, 6 + 12, 9, 8)
    for index, (height, width) in enumerate(SHAPES):
        image = random_image(height, width, seed=index, share=0.2 + 0.2 * index, embedding_channels=6, levels=1)
        images[index, :, :height, :width] = image + index * (image != 0)
    return images.double()


def trained(images: Tensor, labels: Tensor, *, parallel: bool = False) -> dict[str, Tensor]:
    """Weights and running statistics after some steps."""
    torch.manual_seed(0)
    network = DSNet(embedding_channels=6, thumbnail_levels=1).double()
    model = DistributedDataParallel(network, broadcast_buffers=False) if parallel else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    return network.state_dict()


def one_of_two(rank: int, folder: Path) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.save(trained(batch()[rank::2], LABELS[rank::2], parallel=True), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, args=(tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    expected = trained(batch(), LABELS)
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-12)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
