"""What a run trains: config files that are merged, under a name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

BUNDLE = Path(__file__).resolve().parents[2]
CONFIGS = BUNDLE / "configs"


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
