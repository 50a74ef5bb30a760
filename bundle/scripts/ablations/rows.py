"""The rows of the paper's Tables III, IV and V, each an overlay of train.yaml, with the AUC that the paper prints."""

from dataclasses import dataclass

from monai.bundle import ConfigParser

from ..common.config_check import nested, spelled
from ..common.errors import RequestError
from ..common.option_words import Strategy
from ..encoding.encoders import scae_name
from ..studies.datasets import Dataset
from ..studies.recipe import StudyRecipe, config_paths

FULL = "full"
MIXED = "mixed"
OF_THUMBNAIL = frozenset(
    {"table#levels", *(f"network_def#{name}" for name in ("thumbnail_stream", "multi_scale", "stream_attention"))}
)
"""Ids without effect on a network that runs on V alone."""
STRATEGIES: dict[str, Strategy] = {"foreground": "separated", "background": "separated", MIXED: "mixed"}
"""What the S-CAE of a row's embeddings must have been run with, where that matters."""


@dataclass(frozen=True)
class Row(StudyRecipe):
    """One row.

    Attributes:
        name: of the overlay, ``configs/ablations/<name>.yaml``.
        table: where the paper has it.
        title: as it is printed there.
        camelyon16: printed AUC on Camelyon16 (43 positive, 72 negative slides: a standard error of about 0.05).
        tcga_lusc: printed AUC on TCGA-LUSC, which Table III alone has.
        overlays: config files between train.yaml and the row's own, such as recommended.yaml.
    """

    table: str
    title: str
    camelyon16: float
    tcga_lusc: float | None = None
    overlays: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """Config files of its training, in the order in which they are merged."""
        own = dict.fromkeys((f"ablations/{FULL}.yaml", f"ablations/{self.name}.yaml"))
        return config_paths("train.yaml", *self.overlays, *own)

    @property
    def sets(self) -> frozenset[str]:
        """Ids that its own overlay sets, those in a component singly."""
        own = ConfigParser.load_config_file(self.files[-1])
        return frozenset(spelled(name.lstrip("+")) for name, value in nested(own) if not isinstance(value, dict))

    @property
    def is_of_thumbnail(self) -> bool:
        """Whether it differs from `FULL` on the side of T: without T it is `FULL` or another row once more."""
        return self.name != FULL and not self.sets.isdisjoint(OF_THUMBNAIL)

    @property
    def encoder(self) -> str | None:
        """Name of the encoder that its embeddings must be of; None: of any."""
        strategy = STRATEGIES.get(self.name)
        return None if strategy is None else scae_name(strategy)

    def reason_to_skip(self, dataset: Dataset) -> str | None:
        """Why it cannot be run on a dataset or would repeat another row there, if so."""
        of_table = self.config()["table"]
        table = dataset.table(levels=of_table["levels"], channel_range=of_table["channel_range"])
        made_by = table.encoder.split()[0]
        if self.encoder not in (None, made_by):
            return (
                f"{dataset.folder}: embeddings of {made_by}, expected {self.encoder}: encode the slides again, by an S-CAE that "
                f"was trained and is run with --encoder_def#strategy {STRATEGIES[self.name]}"
            )
        try:
            _, levels = table.channels, table.thumbnail_levels
        except RequestError as error:
            return str(error)
        if not levels and self.is_of_thumbnail:
            return (
                f"{dataset.folder}: some slides have neither thumbnail nor slide file, so the network runs on V alone, where this "
                "row repeats another; expected T of every slide: encode the slides with encode.yaml"
            )
        return None


ROWS = {
    row.name: row
    for row in (
        Row(FULL, "III-V", "Full DSNet", 0.760, 0.986),
        Row("no_sparsity", "III", "w/o sparsity", 0.635, 0.977),
        Row("no_thumbnail", "III", "w/o thumbnail stream", 0.686, 0.965),
        Row("no_multi_scale", "III", "w/o multi-scale block", 0.670, 0.974),
        Row("no_concurrent", "III", "w/o concurrent bottlenecks", 0.656, 0.968),
        Row("no_spatial", "III", "w/o spatial bottleneck", 0.696, 0.964),
        Row("no_attention", "III", "w/o Sa w/o Ca", 0.714, 0.975),
        Row("no_stream_attention", "III", "w/o Sa w. Ca", 0.695, 0.975),
        Row("no_channel_attention", "III", "w. Sa w/o Ca", 0.709, 0.975),
        Row("levels_1", "IV", "L = 1", 0.736),
        Row("levels_2", "IV", "L = 2", 0.759),
        Row("levels_4", "IV", "L = 4", 0.755),
        Row("levels_5", "IV", "L = 5", 0.737),
        Row("foreground", "V", "Foreground", 0.650),
        Row("background", "V", "Background", 0.585),
        Row(MIXED, "V", "Mixed", 0.696),
    )
}
"""By name, in the paper's order; L = 3 of Table IV and "Separated" of Table V are the full network."""


def rows_that_set(key: str) -> list[str]:
    """Names of the rows whose overlays set an id, a part of it or what it is a part of."""
    return [
        name
        for name, row in ROWS.items()
        if any(f"{own}#".startswith(f"{key}#") or f"{key}#".startswith(f"{own}#") for own in row.sets)
    ]
