import pytest
import torch
from random_matrices import random_map, random_mask

from scripts.dsnet.packing import pack, unpack


def test_unpack_undoes_pack() -> None:
    o = random_mask(2, 5, 4)
    v = random_map(o, 6)
    t = torch.rand(2, 9, 10, 8, dtype=torch.float64)
    image = pack(v, t)
    assert image.shape == (2, 6 + 36, 5, 4)
    for found, expected in zip(unpack(image, 6), (v, o, t), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_slide_without_batch_axis_packs_alike() -> None:
    v, t = torch.rand(6, 5, 4), torch.rand(9, 10, 8)
    torch.testing.assert_close(pack(v, t), pack(v[None], t[None])[0], rtol=0, atol=0)


def test_pixels_of_t_land_in_the_cell_of_their_patch() -> None:
    rows, columns, levels = 3, 5, 2
    t = torch.empty(3 * levels, 2 * rows, 2 * columns)
    for channel in range(3 * levels):
        for y in range(2 * rows):
            for x in range(2 * columns):
                t[channel, y, x] = 10_000 * channel + 100 * y + x  # the pixel says where it comes from
    image = pack(torch.zeros(4, rows, columns), t)
    for i in range(rows):
        for j in range(columns):
            cell = {int(value) for value in image[4:, i, j]}
            assert cell == {
                10_000 * channel + 100 * (2 * i + a) + 2 * j + b
                for channel in range(3 * levels)
                for a in (0, 1)
                for b in (0, 1)
            }


def test_one_channel_is_enough_to_be_observed() -> None:
    v = torch.zeros(1, 6, 2, 2)
    v[0, 5, 1, 0] = -1e-6
    t = torch.ones(1, 9, 4, 4)  # tissue on the thumbnail alone observes nothing
    _, o, _ = unpack(pack(v, t), 6)
    assert o.shape == (1, 1, 2, 2) and o.sum() == 1 and o[0, 0, 1, 0] == 1


@pytest.mark.parametrize("t_size_yx", [(5, 4), (10, 7), (9, 8), (20, 16), (8, 10)])
def test_t_must_be_twice_v(t_size_yx: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"T must be 10 x 8, twice V's grid of 5 x 4; got"):
        pack(torch.zeros(6, 5, 4), torch.zeros(9, *t_size_yx))
