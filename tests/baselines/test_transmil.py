import pytest
import torch
from dsnet.random_matrices import random_image

from scripts.baselines.nystrom import NystromAttention
from scripts.baselines.transmil import TransMil


def test_with_a_landmark_per_token_it_is_full_attention() -> None:
    torch.manual_seed(0)
    layer = NystromAttention(16, heads=2, landmarks=32, steps=40, dropout=0.0).double().eval()
    layer.along.weight.data.zero_()
    x = torch.randn(9, 16, dtype=torch.float64)
    q, k, v = layer.to_qkv(x).view(9, 3, 2, 8).permute(1, 2, 0, 3)
    weights = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=2)
    found, first = layer(x)
    torch.testing.assert_close(found, layer.out((weights @ v).transpose(0, 1).reshape(9, 16)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first, weights[:, 0].mean(dim=0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 7, 16, 45])
def test_any_number_of_tokens(tokens: int) -> None:
    torch.manual_seed(0)
    found, first = NystromAttention(16, heads=2, landmarks=8).eval()(torch.randn(tokens, 16))
    assert found.shape == (tokens, 16) and found.isfinite().all()
    assert float(first.sum().detach()) == pytest.approx(1, abs=0.05)


def test_a_patch_that_was_not_observed_takes_no_part() -> None:
    torch.manual_seed(0)
    network = TransMil(2, width=16, heads=2, embedding_channels=8).eval()
    image = random_image(6, 7, embedding_channels=8)
    wider = torch.zeros(len(image), 6, 14)
    wider[:, :, ::2] = image  # the same patches in the same order, with gaps
    torch.testing.assert_close(network(wider[None]), network(image[None]))
    attention = network.attention_map(image[None])[0, 0]
    assert not attention[~(image[:8] != 0).any(dim=0)].any() and attention.any()


def test_a_slide_of_one_patch() -> None:
    network = TransMil(2, width=16, heads=2, embedding_channels=8).eval()
    image = torch.zeros(1, 44, 3, 3)
    image[0, :8, 1, 1] = 1
    assert network(image).isfinite().all()
