"""The methods that can be compared: DSNet by both recipes, and every overlay of ``configs/baselines``."""

from dataclasses import dataclass
from pydoc import locate

from ..common.config_files import CONFIGS
from ..dsnet.baseline import Baseline
from ..studies.recipe import Overlaid

DSNET = "dsnet"
OWN = {
    DSNET: ((), "DSNet, the paper's recipe"),
    "recommended": (("recommended.yaml",), "DSNet, the recommended recipe"),
}
"""Overlays and titles of DSNet by name."""

PAPER = {
    DSNET: (0.760, 0.986),
    "tellez_resnet": (0.717, 0.976),
    "naive": (0.524, 0.956),
    "chen": (0.643, 0.975),
    "hou": (0.666, 0.973),
    "zhao": (0.695, 0.976),
    "wang": (0.925, None),
}
"""AUC that Table II prints, on Camelyon16 and TCGA-LUSC; its patch-wise methods see raw patches, not V."""

RAW = "_raw"
ON_RAW_PATCHES = ("chen", "hou", "wang")
"""Methods that stand twice: on V, and by the name with `RAW` on raw patches."""


@dataclass(frozen=True)
class Method(Overlaid):
    """One method.

    Attributes:
        name: of the overlay, ``configs/baselines/<name>.yaml``, or of one of `OWN`.
        overlays: config files that are laid over train.yaml.
        title: what it is.
    """

    title: str

    @property
    def needs_thumbnail(self) -> bool:
        """Whether it looks at T."""
        network = locate(self.config()["network_def"]["_target_"])
        return isinstance(network, type) and issubclass(network, Baseline) and network.sees_thumbnail

    @property
    def needs_raw_patches(self) -> bool:
        """Whether a CNN of it looks at pixels, so that V must hold them."""
        return str(self.config()["network_def"].get("patch_network")).startswith("resnet")

    @property
    def needs_masks(self) -> bool:
        """Whether it learns from lesion masks, which its overlay then has an option for."""
        return "masks" in self.config()


def _title(name: str) -> str:
    """What the first comment of an overlay says, up to what it says of all of them."""
    first = (CONFIGS / "baselines" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    return first.partition(": ")[2].partition(" in place of DSNet")[0].removesuffix(",")


METHODS: dict[str, Method] = {name: Method(name, *said) for name, said in OWN.items()} | {
    path.stem: Method(path.stem, (f"baselines/{path.name}",), _title(path.stem))
    for path in sorted((CONFIGS / "baselines").glob("*.yaml"))
}
METHODS |= {
    name + RAW: Method(name + RAW, (f"baselines/{name}.yaml", "raw_patches.yaml"), f"{_title(name)}: on raw patches")
    for name in ON_RAW_PATCHES
}
"""By name."""
