"""The encoders of neural image compression (Tellez et al., IEEE TPAMI 43(2), 2021) and how they learn from patches alone.

A variational autoencoder, a contrastive encoder and a BiGAN share the encoder, which the stage ``encoding`` takes from their
weights. Each is an overlay on train_scae.yaml. The losses hold what serves the training alone: it is trained with the network, and
is no part of its weights.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

INPUT_PX = 64
CHANNELS = 128
LAYERS = 4
SLOPE = 0.2
_BOTTOM_PX = 3
_DECODED = (128, 128, 64, 32, 16)


class NICLayers(nn.Module):
    """The encoder: four strided 3x3 convolutions of 128 channels, each with leaky ReLU and batch norm, and a dense layer."""

    input_px = INPUT_PX
    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(LAYERS):
            layers += [
                nn.Conv2d(CHANNELS if index else 3, CHANNELS, 3, stride=2),
                nn.LeakyReLU(SLOPE),
                nn.BatchNorm2d(CHANNELS, eps=1e-3),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Linear(_BOTTOM_PX**2 * CHANNELS, CHANNELS)

    def forward(self, patches: Tensor) -> Tensor:
        """Encode patches (B, 3, 64, 64) in [0, 1] to (B, 128)."""
        return self.dense(self.maps(patches))

    def maps(self, patches: Tensor) -> Tensor:
        """What the dense layer sees, (B, 1152)."""
        return self.convolutions(patches * 2 - 1).flatten(1)


def _decoder() -> nn.Sequential:
    """From (B, 128) to patches (B, 3, 64, 64) in [0, 1]: nearest upsampling and 3x3 convolutions.

    The source gives no sizes for its decoder.
    """
    layers: list[nn.Module] = [nn.Linear(CHANNELS, 16 * _DECODED[0]), nn.Unflatten(1, (_DECODED[0], 4, 4))]
    for inputs, outputs in pairwise(_DECODED):
        layers += [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(SLOPE),
        ]
    return nn.Sequential(*layers, nn.Conv2d(_DECODED[-1], 3, 3, padding=1), nn.Sigmoid())


class Variational(NamedTuple):
    """What a variational autoencoder makes of patches."""

    reconstruction: Tensor  # (B, 3, 64, 64)
    mean: Tensor  # of the code, (B, 128): what encoding gives
    log_variance: Tensor  # of the code, (B, 128)


class VariationalAutoencoder(nn.Module):
    """Encoder and decoder of a variational autoencoder (Kingma and Welling 2014)."""

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NICLayers()
        self.to_log_variance = nn.Linear(_BOTTOM_PX**2 * CHANNELS, CHANNELS)
        self.decoder = _decoder()

    def forward(self, patches: Tensor) -> Variational:
        """Reconstruct patches from a code that is drawn; draws come from torch's generator on the CPU."""
        maps = self.encoder.maps(patches)
        mean, log_variance = self.encoder.dense(maps), self.to_log_variance(maps).clamp(-10, 10)
        drawn = mean + torch.exp(log_variance / 2) * torch.randn(mean.shape).to(mean)
        return Variational(self.decoder(drawn), mean, log_variance)


class VariationalLoss(nn.Module):
    """Negative evidence lower bound per pixel: pixels normal about the reconstruction, codes about 0.

    Args:
        deviation: of the pixels, which the source does not name.
    """

    def __init__(self, deviation: float = 0.1) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, found: Variational, patches: Tensor) -> Tensor:
        """Loss of a batch."""
        divergence = (found.mean.square() + found.log_variance.exp() - 1 - found.log_variance).sum(dim=1) / 2
        error = F.mse_loss(found.reconstruction.float(), patches) / (2 * self.deviation**2)
        return error + divergence.mean() / patches[0].numel()


class Contrastive(nn.Module):
    """The encoder alone; that two views are of one patch is told by :class:`PairLoss`."""

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NICLayers()

    def forward(self, patches: Tensor) -> Tensor:
        """Encode patches."""
        codes: Tensor = self.encoder(patches)
        return codes


class PairLoss(nn.Module):
    """Cross-entropy of telling, from both codes side by side, pairs of views of one patch from pairs of two patches.

    Args:
        width: hidden units of the perceptron that tells.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.tell = nn.Sequential(nn.Linear(2 * CHANNELS, width), nn.LeakyReLU(SLOPE), nn.Linear(width, 1))

    def forward(self, codes: Tensor, views: Tensor) -> Tensor:
        """Loss of codes (2B, 128), of which i and B + i are of one patch; i and B + i + 1 are of two."""
        first, second = codes.float().chunk(2)
        same, other = self.tell(torch.cat([first, second], 1)), self.tell(torch.cat([first, second.roll(-1, 0)], 1))
        return (F.softplus(-same) + F.softplus(other)).mean() / 2


class Adversarial(NamedTuple):
    """Both pairs of patch and code that a BiGAN is about."""

    code: Tensor  # of the patches, (B, 128)
    drawn: Tensor  # code, (B, 128)
    generated: Tensor  # from it, (B, 3, 64, 64)


class BiGAN(nn.Module):
    """Encoder and generator of a BiGAN (Donahue et al. 2017)."""

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NICLayers()
        self.generator = _decoder()

    def forward(self, patches: Tensor) -> Adversarial:
        """Encode patches, and generate as many from codes that are drawn by torch's generator on the CPU."""
        code = self.encoder(patches)
        drawn = torch.randn(code.shape).to(code)
        return Adversarial(code, drawn, self.generator(drawn))


class Discriminator(nn.Module):
    """Tells a patch with its code from a code with what was generated from it."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(LAYERS):  # no batch norm: both kinds of pairs go through it one after the other
            layers += [nn.Conv2d(CHANNELS // 2 if index else 3, CHANNELS // 2, 3, stride=2), nn.LeakyReLU(SLOPE)]
        self.convolutions = nn.Sequential(*layers)
        inputs = _BOTTOM_PX**2 * CHANNELS // 2 + CHANNELS
        self.decide = nn.Sequential(nn.Linear(inputs, 4 * CHANNELS), nn.LeakyReLU(SLOPE), nn.Linear(4 * CHANNELS, 1))

    def forward(self, patches: Tensor, codes: Tensor) -> Tensor:
        """Logits (B, 1), high for a patch with its code."""
        return self.decide(torch.cat([self.convolutions(patches * 2 - 1).flatten(1), codes], dim=1))


class AdversarialLoss(nn.Module):
    """Discriminator against encoder and generator, in one step of one optimizer.

    The discriminator's loss reaches its own weights alone; the loss of encoder and generator, which want it to err, theirs alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = Discriminator()

    def forward(self, found: Adversarial, patches: Tensor) -> Tensor:
        """Sum of both losses of a batch."""
        own = self.discriminator(patches, found.code.detach())
        made = self.discriminator(found.generated.detach(), found.drawn)
        frozen: dict[str, Tensor] = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        own_to_fool = functional_call(self.discriminator, frozen, (patches, found.code))
        made_to_fool = functional_call(self.discriminator, frozen, (found.generated, found.drawn))
        told = F.softplus(-own) + F.softplus(made)
        fooled = F.softplus(own_to_fool) + F.softplus(-made_to_fool)
        return (told + fooled).float().mean()
