"""Two views of a patch that show the same tissue and share as little else as possible."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.errors import RequestError
from .scae_network import SCAE

_WHITE = 256.0
_HAEMATOXYLIN, _EOSIN = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105)
"""Optical density of red, green and blue per amount of a stain (Ruifrok and Johnston 2001)."""


class StainViews:
    """Random view of every patch of a batch, twice: crop, flip and quarter turn, stain, blur, noise.

    The stain is varied in optical density (Beer-Lambert), where its amount is a factor: every channel is multiplied by a
    gain and shifted by a bias. Before that the stains themselves may be varied (after Tellez et al. 2018). Haematoxylin, eosin and
    what is left are told apart, their amounts multiplied, their colours moved, and all are put together again. Draws come from
    torch's global generator on the CPU, so a seed gives the same views on any device.

    Args:
        side_px: side of the crop; the scale stays as it is. A multiple of 16, so that the decoders give it back.
        gain: the gain of a channel is drawn evenly from 1 - gain to 1 + gain.
        bias: the bias of a channel is drawn evenly from -bias to bias, in units of optical density (log10).
        amount: the amount of a stain is multiplied by what is drawn evenly from 1 - amount to 1 + amount; None as 0.
        colour: standard deviation of what is added to each component of a stain's vector of optical density, which has length 1;
            None as 0.
        blur: standard deviation in pixels of the Gaussian that every second view, on average, is blurred with.
        noise: standard deviation of the noise that is added, at most; in the units of the patch.

    Raises:
        RequestError: a side that is no multiple of 16.
    """

    def __init__(
        self,
        *,
        side_px: int = 80,
        gain: float = 0.4,
        bias: float = 0.1,
        amount: float | None = None,
        colour: float | None = None,
        blur: float = 1.0,
        noise: float = 0.03,
    ) -> None:
        if not 16 <= side_px <= SCAE.input_px or side_px % 16:
            raise RequestError(f"side_px {side_px}: expected a multiple of 16, up to the {SCAE.input_px} px of a patch")
        self.side_px = side_px
        self.gain = gain
        self.bias = bias
        self.amount = amount or 0.0
        self.colour = colour or 0.0
        self.blur = blur
        self.noise = noise

    def __call__(self, patches: Tensor) -> Tensor:
        """Make views (2B, 3, side_px, side_px) of patches (B, 3, H, W) in [0, 1]; views i and B + i are of one patch."""
        twice = torch.cat([patches, patches])
        views = torch.stack([self._placed(patch) for patch in twice])
        views = self._stained(views)
        views = torch.where(_each(torch.rand(len(views)) < 0.5, views), self._blurred(views), views)
        strength = _each(self.noise * torch.rand(len(views)), views)
        return (views + strength * torch.randn(views.shape).to(views.device)).clamp(0, 1)

    def _placed(self, patch: Tensor) -> Tensor:
        """Crop, flip and turn a patch (3, H, W)."""
        rows, columns = (side - self.side_px + 1 for side in patch.shape[1:])
        if rows < 1 or columns < 1:
            raise RequestError(f"a view of {self.side_px} px cannot be cut from a patch of {tuple(patch.shape[1:])} px")
        row, column = int(torch.randint(rows, ())), int(torch.randint(columns, ()))
        view = patch[:, row : row + self.side_px, column : column + self.side_px]
        symmetry = int(torch.randint(8, ()))
        view = torch.rot90(view, symmetry % 4, dims=(1, 2))
        return view.flip(2) if symmetry >= 4 else view

    def _stained(self, views: Tensor) -> Tensor:
        gain = 1 + self.gain * (2 * torch.rand(len(views), 3, 1, 1) - 1)
        bias = self.bias * (2 * torch.rand(len(views), 3, 1, 1) - 1)
        density = optical_density(views)
        if self.amount or self.colour:
            density = torch.einsum("nchw,ncd->ndhw", density, self._mixtures(len(views)).to(views.device))
        density = density * gain.to(views.device) + bias.to(views.device)
        return ((_WHITE * 10**-density - 1) / (_WHITE - 1)).clamp(0, 1)

    def _mixtures(self, views: int) -> Tensor:
        """Draw what takes the densities of the channels of each view to those under other stains, (N, 3, 3)."""
        pair = torch.tensor([_HAEMATOXYLIN, _EOSIN])
        stains = F.normalize(torch.cat([pair, torch.linalg.cross(pair[:1], pair[1:])]), dim=1)
        moved = F.normalize(stains + self.colour * torch.randn(views, 3, 3), dim=2)
        amounts = 1 + self.amount * (2 * torch.rand(views, 3, 1) - 1)
        return torch.linalg.inv(stains) @ (amounts * moved)

    def _blurred(self, views: Tensor) -> Tensor:
        reach = max(1, round(2 * self.blur))
        line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / max(self.blur, 1e-6)) ** 2).to(views)
        kernel = (line / line.sum()).expand(3, 1, 1, -1)
        padded = F.pad(views, (reach,) * 4, mode="replicate")
        return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def optical_density(patches: Tensor) -> Tensor:
    """Return the optical density (log10) of every channel of patches in [0, 1], at most 2.4."""
    return -torch.log10(((_WHITE - 1) * patches + 1) / _WHITE)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Shape one value per view (N,) so that it applies to ``like`` (N, 3, H, W)."""
    return values.view(-1, 1, 1, 1).to(like.device)
