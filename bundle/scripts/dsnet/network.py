"""DSNet, the dual-stream network of the paper (III-C, Fig. 3, Table I), which decides at the slide or at the patch."""

from typing import Any

import torch
from torch import Tensor, nn

from ..common.option_table import checked
from ..common.option_words import Head
from .decoder import PatchDecoder
from .pooling import GatedAttention, attention_mean, top_mean
from .sparse import LEAKY_SLOPE, SparseMap, SparseUnit, sparse_max, sparse_mean
from .streams import STREAM_CHANNELS, DualStream

HEAD_CHANNELS = 640
HIDDEN_FEATURES = 128


class DSNet(DualStream):
    """Slide label from the embedding matrix V and the thumbnail matrix T.

    ``forward`` takes one tensor, ``image`` (B, embedding_channels + 12 thumbnail_levels, H, W), see
    :mod:`.packing`, and returns logits (B, num_classes).

    Both heads begin with a point-wise convolution of the joint map. That of the paper, ``slide``, pools the H/4 x W/4 cells and
    decides by two fully connected layers. Ours, ``patch``, goes back to V's grid, where every patch has logits of its own. The
    slide's are the mean of the highest of them, class by class; with ``attention_branch`` each patch's logits gain a part that is
    read from V alone, and the slide's are averaged with their mean by gated attention. Of two classes the first is that without
    lesions: its logits are 0, and those of the second say whether there is any. It finds small lesions (docs/decisions/0015) and
    shows where they are: :meth:`patch_logits`.

    ``top_share``, ``attention_branch`` and ``dropout`` matter to ``head="patch"`` alone.

    Args:
        num_classes: classes of the slide label.
        head: "slide" or "patch".
        top_share: share of a slide's observed patches whose logits are averaged.
        attention_branch: whether gated attention over V's patches takes part.
        dropout: share of a patch's features that are left out in training, before both decisions.
        options: further arguments of :class:`.streams.DualStream`.

    Raises:
        RequestError: there is no such head, or ``top_share`` is not in (0, 1].
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        head: Head = "slide",
        top_share: float = 0.02,
        attention_branch: bool = True,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        checked("head", head)
        checked("top_share", top_share)
        super().__init__(num_classes, **options)
        self.keeps_skips = head == "patch"
        self.arguments["head"] = head
        self.top_share = top_share
        self.of_lesions = num_classes == 2
        self.head = SparseUnit(STREAM_CHANNELS, HEAD_CHANNELS)
        self.classifier: nn.Module | None = None
        self.decoder: nn.Module | None = None
        self.attention: nn.Module | None = None
        if head == "slide":
            self.classifier = nn.Sequential(
                nn.Linear(2 * HEAD_CHANNELS, HIDDEN_FEATURES),
                nn.LeakyReLU(LEAKY_SLOPE),
                nn.Linear(HIDDEN_FEATURES, num_classes),
            )
            return
        self.arguments |= {"top_share": top_share, "attention_branch": attention_branch, "dropout": dropout}
        outputs = 1 if self.of_lesions else num_classes
        self.decoder = PatchDecoder(HEAD_CHANNELS, self.local_channels, outputs, dropout=dropout)
        if attention_branch:
            self.attention = GatedAttention(self.local_channels, outputs, dropout=dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        return self.attend(image)[0]

    @torch.jit.export
    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, num_classes), stream score (B,) and channel scores (B, 320), the outputs of Fig. 8 and 9."""
        fused = self.fuse(image)
        features = self.head(fused.joint)
        if self.decoder is not None:
            logits, _ = self._decide(self.decoder(features, fused.skips), fused.skips[0])
            return logits, fused.stream_score, fused.channel_scores
        mean = sparse_mean(features.values, features.observed)
        pooled = torch.cat([mean, sparse_max(features.values, features.observed)], dim=1)
        logits = self.classifier(pooled) if self.classifier is not None else pooled  # the paper's head has one
        return logits, fused.stream_score, fused.channel_scores

    def _decide(self, patches: Tensor, v: SparseMap) -> tuple[Tensor, Tensor]:
        """Logits of the slide (B, num_classes) and of its patches (B, num_classes, H, W), from the decoder's map and V."""
        attention = v.observed
        if self.attention is not None:
            attention, of_v = self.attention(v.values, v.observed)
            patches = patches + of_v
        if self.of_lesions:
            patches = torch.cat([torch.zeros_like(patches), patches], dim=1)
        logits = top_mean(patches, v.observed, self.top_share)
        if self.attention is not None:
            logits = (logits + attention_mean(patches, attention)) / 2
        return logits, patches

    @torch.jit.unused
    def decide(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the slide (B, num_classes), and of every patch (B, num_classes, H, W), see :meth:`patch_logits`.

        Raises:
            ValueError: this network decides at the slide.
        """
        if self.decoder is None:
            raise ValueError("head 'slide' has no logits of patches: expected head 'patch'")
        fused = self.fuse(image)
        return self._decide(self.decoder(self.head(fused.joint), fused.skips), fused.skips[0])

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch, (B, num_classes, H, W); without meaning where none was observed.

        Raises:
            ValueError: this network decides at the slide.
        """
        return self.decide(image)[1]
