"""The encoders of neural image compression that are trained here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_flow import CONFIGS, ON_CPU, run_config

from scripts.common.errors import RequestError
from scripts.encoding.nic import NICEncoder
from scripts.patches.draw import SlideSample
from scripts.patches.patch_file import patch_writer
from scripts.scae.nic_networks import AdversarialLoss, BiGAN, PairLoss, Variational, VariationalLoss

OVERLAYS = sorted(path.stem for path in (CONFIGS / "nic").glob("*.yaml"))


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patches")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3)).astype(np.uint8)
    with patch_writer(folder / "patches.h5", {"seed": 0}) as append:
        append("slide", SlideSample(pixels, np.zeros((8, 2), int), np.ones(8, bool), 9, ""))
    return folder


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_trained_and_encoding_takes_its_weights(patches: Path, tmp_path: Path, overlay: str) -> None:
    options = {"dataset_dir": patches, "output_dir": tmp_path, "max_epochs": 2, "batch_size": 4, **ON_CPU}
    stage = run_config("train_scae.yaml", f"nic/{overlay}.yaml", run_id="training", **options)
    network = stage.parser.get_parsed_content("network")
    encoder = NICEncoder(tmp_path / "scae.pt")
    shown = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(encoder(shown), network.encoder.eval()(shown))
    assert encoder.channels == network.channels
    moved = [not torch.equal(value, fresh) for value, fresh in zip(encoder.parameters(), _fresh(), strict=True)]
    assert all(moved)


def _fresh() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return list(BiGAN().encoder.parameters())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"trunk.0.weight": torch.zeros(3)}, tmp_path / "scae.pt")
    with pytest.raises(RequestError, match=r"scae\.pt: does not fit NICEncoder.*configs/nic"):
        NICEncoder(tmp_path / "scae.pt")


def test_the_lower_bound_per_pixel() -> None:
    torch.manual_seed(0)
    patches, made, mean, log_variance = (torch.rand(2, *shape) for shape in ((3, 4, 4), (3, 4, 4), (5,), (5,)))
    normal = torch.distributions.Normal
    pixels = normal(made, 0.1).log_prob(patches) - normal(made, 0.1).log_prob(made)  # less the constant
    code = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    expected = (-pixels.sum() + code.sum()) / 2 / 48
    found = VariationalLoss(0.1)(Variational(made, mean, log_variance), patches)
    torch.testing.assert_close(found, expected)


def test_pairs_of_views() -> None:
    torch.manual_seed(0)
    loss = PairLoss()
    codes = torch.randn(6, 128)
    pairs = [(0, 3, 1.0), (1, 4, 1.0), (2, 5, 1.0), (0, 4, 0.0), (1, 5, 0.0), (2, 3, 0.0)]
    told = torch.stack([loss.tell(torch.cat([codes[one], codes[other]])) for one, other, _ in pairs])[:, 0]
    same = torch.tensor([pair[2] for pair in pairs])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(told, same)
    torch.testing.assert_close(loss(codes, torch.rand(6, 3, 64, 64)), expected)


def test_each_side_of_a_bigan_learns_from_its_own_loss() -> None:
    torch.manual_seed(0)
    network, loss = BiGAN(), AdversarialLoss()
    patches = torch.rand(4, 3, 64, 64)
    found = network(patches)
    loss(found, patches).backward(retain_graph=True)
    softplus = torch.nn.functional.softplus
    own, made = (loss.discriminator(*pair) for pair in ((patches, found.code), (found.generated, found.drawn)))
    told, fooled = (softplus(-own) + softplus(made)).mean(), (softplus(own) + softplus(-made)).mean()
    for part, its_loss in ((loss, told), (network, fooled)):
        weights = list(part.parameters())
        expected = torch.autograd.grad(its_loss, weights, retain_graph=True)
        for weight, gradient in zip(weights, expected, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-6)
