"""Any network as a patch encoder: what it takes, and that it gives one vector per patch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..common.errors import RequestError
from ..common.option_structures import Items
from ..common.option_table import checked
from ..common.option_types import Number
from ..common.weights import first_not_finite

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class WrappedEncoder(nn.Module):
    """A network of another project with its input normalised; see docs/encoders.md for examples.

    Args:
        network: makes the network, weights included: a component with ``_mode_: callable``, such as of ``torch.jit.load`` or
            ``timm.create_model``. It maps (B, 3, input_px, input_px) to (B, C).
        input_px: side of its input.
        mean: of each colour on the scale of 0 to 1, subtracted from the input; ImageNet's by default.
        std: by which it is divided then.

    Raises:
        RequestError: the network cannot be made, does not take such an input, or does not give a vector of finite numbers per
            patch.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: Callable[[], nn.Module],
        *,
        input_px: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        checked("mean", mean, Items(Number(), "three numbers", count=3))
        checked("std", std, Items(Number(over=0), "three numbers over 0", count=3))
        try:
            self.network = network().eval()
        except (OSError, RuntimeError, ValueError) as error:
            raise RequestError(
                f"the encoder's network cannot be made ({error}); expected its weights in a file that it reads: check --encoder"
            ) from error
        broken = first_not_finite(dict(self.network.named_parameters()))
        if broken is not None:
            raise RequestError(
                f"the encoder's network: weights that are NaN or infinite (in {broken}), expected finite numbers: check --encoder"
            )
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.input_px = input_px
        self.name = f"{getattr(self.network, 'original_name', type(self.network).__name__)}-{input_px}px"
        self.eval()
        self.channels = self._count_channels()

    def forward(self, patches: Tensor) -> Tensor:
        """Encode patches (B, 3, input_px, input_px) in [0, 1] to (B, channels)."""
        return self.network((patches - self.mean) / self.std)

    @torch.inference_mode()
    def _count_channels(self) -> int:
        """Return C, from two white patches."""
        try:
            vectors = self(torch.ones(2, 3, self.input_px, self.input_px))
        except RuntimeError as error:
            raise RequestError(
                f"{self.name}: takes no patches of {self.input_px} px ({error}); expected the side that it was trained on: "
                "correct input_px"
            ) from error
        if not isinstance(vectors, Tensor) or vectors.dim() != 2 or len(vectors) != 2:
            found = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
            raise RequestError(
                f"{self.name}: gives {found} for two patches, expected (2, C): choose its pooled output (in timm: num_classes=0)"
            )
        if not torch.isfinite(vectors).all():
            raise RequestError(
                f"{self.name}: gives NaN or infinity for white patches, expected finite numbers: check --encoder"
            )
        return vectors.shape[1]
