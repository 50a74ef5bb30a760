"""Raw patches in V's place: an encoder that leaves a patch as it is, for networks that look at pixels."""

import torch
from torch import Tensor, nn

from ..common.option_table import checked

RAW_NAME = "RawPatches"
"""With which the name of the encoder begins in an embedding file."""


class RawPatches(nn.Module):
    """The pixels of a patch as its vector: red, green and blue, each row by row, as whole numbers from 0 to 255.

    So V of a slide has 3 side^2 channels. They are exact in float16, in which the file holds them.

    Args:
        side_px: side to which a patch is reduced.

    Raises:
        RequestError: ``side_px`` is no whole number over 0.
    """

    dtype = "float16"

    def __init__(self, side_px: int = 64) -> None:
        super().__init__()
        self.input_px = checked("side_px", side_px)
        self.channels = 3 * side_px**2
        self.name = f"{RAW_NAME}-{side_px}px"

    def forward(self, patches: Tensor) -> Tensor:
        """Turn patches (B, 3, side_px, side_px) in [0, 1] into vectors (B, 3 side_px^2)."""
        return torch.round(255 * patches).flatten(1)
