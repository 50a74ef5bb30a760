"""The paper's patch-wise methods, on V or on raw patches: patches are taught the label of their slide."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import Fusion, PatchNetwork
from ..common.ranks import world_size
from ..dsnet.baseline import Baseline, by_patch
from ..dsnet.pooling import top_mean
from ..dsnet.sparse import sparse_mean
from .patch_network import make_patch_network


class PatchClassifier(Baseline):
    """A network that judges every patch, and a teacher, an earlier state of it, that says which patches to learn from.

    In training ``forward`` returns maps (B, 3 K + 1, H, W): logits of the patches, those of the teacher, those of the slide
    everywhere, and O. A subclass makes the slide's logits of the patches', and moves the teacher.

    Args:
        num_classes: K, classes of the slide label.
        own: arguments of the subclass.
        patch_network: "perceptron" on V; or "resnet50" (paper), "resnet34", "resnet18" where V holds raw patches.
        width: hidden units of the perceptron.
        dropout: share of these that is left out in training.
        common: further arguments of :class:`..dsnet.baseline.Baseline`.
    """

    map_source = "patches"

    def __init__(
        self,
        num_classes: int,
        own: Mapping[str, object],
        *,
        patch_network: PatchNetwork = "perceptron",
        width: int = 128,
        dropout: float = 0.25,
        **common: Any,
    ) -> None:
        kept = {"patch_network": patch_network, "width": width, "dropout": dropout, **own}
        super().__init__(num_classes, kept, **common)
        self.classifier = make_patch_network(
            patch_network, self.embedding_channels, num_classes, width=width, dropout=dropout
        )
        self.teacher = deepcopy(self.classifier).requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K); in training the maps named above."""
        v, o = self.patches(image)
        patches = self.classifier(v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.training:
            return self._lesson(patches, v, o)
        return self.decide(patches, o)

    def decide(self, patches: Tensor, o: Tensor) -> Tensor:
        """Logits of the slide (B, K), of those of its patches (B, K, H, W) and O."""
        raise NotImplementedError

    @torch.jit.unused
    def move_teacher(self, slides: int) -> None:
        """Bring the teacher up to date, before a step on so many slides."""
        raise NotImplementedError

    @torch.jit.unused
    def _lesson(self, patches: Tensor, v: Tensor, o: Tensor) -> Tensor:
        self.move_teacher(len(o))
        with torch.no_grad():
            taught = by_patch(self.teacher.eval(), v)
        slide = self.decide(patches, o)[:, :, None, None].expand_as(patches)
        return torch.cat([patches, taught, slide, o], dim=1)

    @torch.jit.unused
    def patch_logits(self, image: Tensor) -> Tensor:
        """Return the logits of every patch, (B, K, H, W); without meaning where none was observed."""
        v, _ = self.patches(image)
        return by_patch(self.classifier, v)


class RectifiedPatches(PatchClassifier):
    """Chen et al. (MICCAI 2019): patches learn the slide's label by their rank in the slide, see :class:`RectifiedLoss`.

    The first class is that without lesions, and classes are in order. The predictions that rank the patches are those of a teacher
    whose weights follow; the source averages the predictions themselves over the epochs, which augmented slides do not allow. The
    slide's logits are the mean of the highest log-odds against the first class: the source leaves the slide's decision open.

    Args:
        num_classes: classes of the slide label.
        momentum: share of its way to the classifier that the teacher goes with every step.
        top_share: share of the slide's patches that decide.
        common: further arguments of :class:`PatchClassifier`.
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        momentum: float = 0.1,
        top_share: float = 0.02,
        **common: Any,
    ) -> None:
        own = {"momentum": momentum, "top_share": top_share}
        super().__init__(num_classes, own, **common)
        self.momentum = momentum
        self.top_share = top_share

    def decide(self, patches: Tensor, o: Tensor) -> Tensor:
        """Mean of the highest log-odds of every class against the first."""
        return top_mean(patches - patches[:, :1], o, self.top_share)

    @torch.jit.unused
    def move_teacher(self, slides: int) -> None:
        """A step towards the classifier."""
        with torch.no_grad():
            for mine, its in zip(self.teacher.parameters(), self.classifier.parameters(), strict=True):
                mine.lerp_(its, self.momentum)
            for kept, current in zip(self.teacher.buffers(), self.classifier.buffers(), strict=True):
                kept.copy_(current)  # running statistics of a CNN, which are averages already


class RectifiedLoss(nn.Module):
    """Rectified cross-entropy and upper transition loss (Chen et al. 2019).

    Of a slide of the first class every patch learns it. A patch of another slide weighs by its rank: the teacher's probability of
    the slide's class ranks the patches. The first ``hard_share`` weigh 1; from there on the weight falls evenly to 0 at
    ``soft_share``. No patch may belong to a class above its slide's: -log(1 - P(above)) is added. The source prints no shares;
    these are ours, set before anything was measured.

    Args:
        num_classes: K.
        hard_share: of a slide's patches.
        soft_share: of a slide's patches, over ``hard_share``.
        transition: weight of the second loss.
    """

    def __init__(
        self, num_classes: int, *, hard_share: float = 0.05, soft_share: float = 0.3, transition: float = 1.0
    ) -> None:
        super().__init__()
        if not hard_share < soft_share:
            raise RequestError(f"hard_share {hard_share}, soft_share {soft_share}: expected the first under the second")
        self.num_classes = num_classes
        self.hard_share = hard_share
        self.soft_share = soft_share
        self.transition = transition

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        """Loss of what :class:`RectifiedPatches` returns in training, and class indices (B,)."""
        patches, taught, _, o = _parts(output, self.num_classes)
        rank = _rank(_of_label(taught.softmax(dim=1), labels), o)
        falling = ((self.soft_share - rank) / (self.soft_share - self.hard_share)).clamp(0, 1)
        weight = torch.where(labels.view(-1, 1, 1) == 0, torch.ones_like(rank), falling) * o[:, 0]
        log_p = patches.log_softmax(dim=1)
        loss = _weighted(-_of_label(log_p, labels), weight)
        above = torch.arange(self.num_classes, device=labels.device) > labels.unsqueeze(1)
        of_above = (log_p.exp() * above[:, :, None, None]).sum(dim=1)
        return loss + self.transition * _weighted(-torch.log1p(-of_above.clamp(max=1 - 1e-6)), o[:, 0])


class DiscriminativePatches(PatchClassifier):
    """Hou et al. (CVPR 2016): only discriminative patches learn the slide's label, and a linear model fuses what patches say.

    Expectation: every ``round_slides`` training slides the teacher becomes what the classifier is, and says which patches are
    discriminative (:class:`DiscriminativeLoss`). Before the first time all are. The source stops when 95 % of them stay the same;
    here rounds go on to the end, when little changes. Fusion: the mean of the class probabilities of all patches goes into a
    linear model, logistic or a support vector machine by its loss. It learns beside the patches and does not teach them.

    Args:
        num_classes: classes of the slide label.
        round_slides: slides per round, of all processes; twice the training slides are two epochs, as in the source.
        common: further arguments of :class:`PatchClassifier`.
    """

    seen: Tensor

    def __init__(
        self,
        num_classes: int = 2,
        *,
        round_slides: int = 400,
        **common: Any,
    ) -> None:
        super().__init__(num_classes, {"round_slides": round_slides}, **common)
        self.round_slides = round_slides
        self.fusion = nn.Linear(num_classes, num_classes)
        nn.init.eye_(self.fusion.weight)
        nn.init.zeros_(self.fusion.bias)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        for part in self.teacher.modules():
            if isinstance(part, nn.Linear):  # says the same of every patch, so that all are kept
                nn.init.zeros_(part.weight)
                nn.init.zeros_(part.bias)

    def decide(self, patches: Tensor, o: Tensor) -> Tensor:
        """Of the class histogram, in tenths."""
        histogram = sparse_mean(patches.detach().softmax(dim=1), o)
        return self.fusion(10 * histogram)

    @torch.jit.unused
    def move_teacher(self, slides: int) -> None:
        """A new round, where one is due; as many slides go through each of several processes."""
        slides *= world_size()
        if int(self.seen) // self.round_slides < int(self.seen + slides) // self.round_slides:
            self.teacher.load_state_dict(self.classifier.state_dict())
        self.seen += slides


class DiscriminativeLoss(nn.Module):
    """Cross-entropy of the discriminative patches, and the loss of the slide.

    A patch is discriminative where the teacher's probability of the slide's class, smoothed over the slide by a Gaussian, is among
    the highest ``keep`` of the slide. The source takes the lower of two thresholds, of the slide and of the class; that of the
    class would need all slides at once, and is left out.

    Args:
        num_classes: K.
        keep: share of a slide's patches.
        sigma: of the Gaussian, in patches.
        fusion: "logistic" or "svm", the loss of the slide's logits.
    """

    kernel: Tensor

    def __init__(self, num_classes: int, *, keep: float = 0.3, sigma: float = 1.0, fusion: Fusion = "logistic") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.keep = keep
        self.of_slide: nn.Module = nn.MultiMarginLoss() if checked("fusion", fusion) == "svm" else nn.CrossEntropyLoss()
        reach = int(3 * sigma + 0.5)
        line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        self.register_buffer("kernel", (line[:, None] * line)[None, None], persistent=False)

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        """Loss of what :class:`DiscriminativePatches` returns in training, and class indices (B,)."""
        patches, taught, slide, o = _parts(output, self.num_classes)
        p = _of_label(taught.softmax(dim=1), labels)[:, None] * o
        smooth = self._smoothed(p, o)
        level = p.detach().flatten(1).sum(dim=1) / o.flatten(1).sum(dim=1).clamp(min=1)
        alike = (smooth - level.view(-1, 1, 1)).abs() < 1e-4  # a teacher that tells no patch from another keeps all
        all_alike = (alike | (o[:, 0] == 0)).flatten(1).all(dim=1).view(-1, 1, 1)
        kept = ((_rank(smooth, o) < self.keep) | all_alike).to(o.dtype) * o[:, 0]
        loss: Tensor = _weighted(-_of_label(patches.log_softmax(dim=1), labels), kept)
        return loss + self.of_slide(slide, labels)

    def _smoothed(self, p: Tensor, o: Tensor) -> Tensor:
        """Gaussian mean over the observed neighbours, (B, H, W); half precision would make confident patches all alike."""
        reach = self.kernel.shape[2] // 2
        with torch.autocast(p.device.type, enabled=False):
            sums, weights = (F.conv2d(x.float(), self.kernel, padding=reach) for x in (p, o))
            return (sums / weights.clamp(min=1e-6))[:, 0]


def _parts(output: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What :class:`PatchClassifier` returns in training: logits of patches and of the teacher, of the slide (B, K), and O."""
    patches, taught, slide, o = output.split([num_classes, num_classes, num_classes, 1], dim=1)
    return patches, taught, slide[:, :, 0, 0], o


def _of_label(maps: Tensor, labels: Tensor) -> Tensor:
    """Of maps (B, K, H, W) that of each slide's class, (B, H, W)."""
    return maps[torch.arange(len(labels), device=labels.device), labels]


def _rank(score: Tensor, o: Tensor) -> Tensor:
    """Share of the slide's observed patches that score higher, (B, H, W); 1 and more where none was observed."""
    falling = torch.where(o[:, 0] > 0, score, float("-inf")).flatten(1).argsort(dim=1, descending=True)
    rank = falling.argsort(dim=1).to(score.dtype).view_as(score)
    return rank / o.sum(dim=(1, 2, 3)).clamp(min=1).view(-1, 1, 1)


def _weighted(loss: Tensor, weight: Tensor) -> Tensor:
    """The mean over slides of the weighted mean over their patches, of (B, H, W)."""
    return ((loss * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1e-6)).mean()
