"""What a run trains: config files that are merged, under a name."""

from dataclasses import dataclass
from typing import Any

from monai.bundle import ConfigParser

from ..common.config_files import CONFIGS


@dataclass(frozen=True)
class Recipe:
    """A recipe; a subclass says of which files.

    Attributes:
        name: of its folder and its row.
    """

    name: str

    @property
    def files(self) -> list[str]:
        """Config files of its training, in the order in which they are merged."""
        raise NotImplementedError

    def config(self, **options: Any) -> dict[str, Any]:
        """Merge its files and ``options``, which may name nested ids."""
        parser = ConfigParser(ConfigParser.load_config_files(self.files))
        parser.update(options)
        content: dict[str, Any] = parser.get()
        return content


def config_paths(*names: str) -> list[str]:
    """Paths of config files by their names in ``bundle/configs``; absolute ones stay as they are."""
    return [str(CONFIGS / name) for name in names]
