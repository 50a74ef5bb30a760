import torch
from random_matrices import pack, random_map, random_mask
from torch import Tensor

from scripts.dsnet.packing import ROWS_AT_ONCE, WHITE, pack_observed, unpack


def observed_of(o: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors and cells of V."""
    (cells,) = torch.nonzero(o.flatten(), as_tuple=True)
    return v.permute(0, 2, 3, 1).reshape(-1, v.shape[1])[cells], cells


def test_what_was_observed_comes_back_where_it_was() -> None:
    o = random_mask(2, 5, 4).float()
    v = random_map(o, 6).float()
    t = torch.randint(0, 256, (2, 9, 10, 8), dtype=torch.uint8)
    image = pack_observed(*observed_of(o, v), t)
    assert image.shape == (2, 6 + 36, 5, 4) and image.dtype == torch.float32
    assert image.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(image, pack(v, 1 - t.float() / WHITE), rtol=0, atol=0)
    for found, expected in zip(unpack(image, 6), (v, o, 1 - t.float() / WHITE), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_of_more_vectors_than_are_converted_at_once_each_has_its_cell() -> None:
    cells = torch.randperm(60 * 50)[: 2 * ROWS_AT_ONCE + 5].sort().values
    vectors = torch.rand(len(cells), 2).half()
    image = pack_observed(vectors, cells, torch.full((1, 9, 120, 100), WHITE, dtype=torch.uint8))
    expected = torch.zeros(60 * 50, 2)
    expected[cells] = vectors.float()
    assert torch.equal(image[0, :2].flatten(1).T, expected)


def test_half_precision_ends_in_the_image() -> None:
    vectors = torch.rand(3, 6).half()
    image = pack_observed(vectors, torch.tensor([1, 2, 5]), torch.full((1, 9, 4, 6), WHITE, dtype=torch.uint8))
    assert torch.equal(image[0, :6].flatten(1)[:, [1, 2, 5]], vectors.float().T)
    assert int((image != 0).sum()) == 18, "white is zero"


def test_pixels_of_t_land_in_the_cell_of_their_patch() -> None:
    rows, columns, levels = 3, 4, 2
    t = torch.randperm(3 * levels * 2 * rows * 2 * columns).reshape(1, 3 * levels, 2 * rows, 2 * columns) % 251
    image = pack_observed(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), t.to(torch.uint8))[0]
    for i in range(rows):
        for j in range(columns):
            pixels = t[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten()
            torch.testing.assert_close(image[4:, i, j].sort()[0], (1 - pixels / 255).sort()[0])


def test_one_channel_is_enough_to_be_observed() -> None:
    v = torch.zeros(1, 6, 2, 2)
    v[0, 5, 1, 0] = -1e-6
    t = torch.ones(1, 9, 4, 4)  # tissue on the thumbnail alone observes nothing
    _, o, _ = unpack(pack(v, t), 6)
    assert o.shape == (1, 1, 2, 2) and o.sum() == 1 and o[0, 0, 1, 0] == 1
