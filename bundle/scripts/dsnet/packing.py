"""One tensor for both matrices: ``image`` = [V || pixel_unshuffle(T, 2)], because every MONAI tool feeds one tensor."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..slides.geometry import T_PIXELS_PER_PATCH

WHITE = 255
ROWS_AT_ONCE = 1024  # vectors converted to float32 at a time, to bound the memory


def pack_observed(vectors: Tensor, cells: Tensor, t: Tensor) -> Tensor:
    """Make the network's input of the patches that were observed, on their device.

    T becomes absorbance-like, 1 - intensity, so that white glass is zero and a batch filled up with white is filled up with zeros.

    Args:
        vectors: v of each patch, (n, C), of any floating type.
        cells: where each lies in the B H W cells of the batch, in row-major order, (n,).
        t: T, uint8 intensities (B, 3L, 2H, 2W).

    Returns:
        ``image`` (B, C + 12L, H, W), float32, channels last (the order in which convolutions are fastest); V is zero where no patch
        was observed.
    """
    batch, planes, height, width = t.shape
    k, channels = T_PIXELS_PER_PATCH, vectors.shape[1]
    shape = (batch, height // k, width // k, channels + k * k * planes)
    image = torch.zeros(shape, device=vectors.device)
    of_cells = image.view(-1, shape[-1])[:, :channels]
    for some, values in zip(cells.split(ROWS_AT_ONCE), vectors.split(ROWS_AT_ONCE), strict=True):
        of_cells[some] = values.float()
    image[..., channels:] = F.pixel_unshuffle(1 - t.float() / WHITE, k).permute(0, 2, 3, 1)
    return image.permute(0, 3, 1, 2)


def unpack(image: Tensor, embedding_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split ``image`` (B, C + 12L, H, W) into V (B, C, H, W), O (B, 1, H, W) and T (B, 3L, 2H, 2W).

    O is one where any channel of V is not zero.
    """
    v = image[:, :embedding_channels]
    o = (v != 0).any(dim=1, keepdim=True).to(image.dtype)
    return v, o, F.pixel_shuffle(image[:, embedding_channels:], 2)
