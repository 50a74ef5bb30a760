"""What a run trains: config files that are merged, under a name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..common.config_files import CONFIGS
from ..common.errors import RequestError


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


@dataclass(frozen=True)
class Overlaid(Recipe):
    """train.yaml with overlays on it.

    Attributes:
        overlays: config files that are laid over train.yaml; names may be of ``bundle/configs``.
    """

    overlays: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        """Config files of its training, in the order in which they are merged."""
        return config_paths("train.yaml", *self.overlays)


def overlay_file(overlay: str | Path) -> Path:
    """Return the file of an overlay: as it is named, or in the bundle's folder of configs.

    Raises:
        RequestError: there is no such file.
    """
    for path in (Path(overlay), CONFIGS / overlay):
        if path.is_file():
            return path.resolve()
    raise RequestError(
        f"overlays {overlay}: no such file, neither here nor in {CONFIGS}; expected a config such as recommended.yaml"
    )


def config_paths(*names: str) -> list[str]:
    """Paths of config files by their names in ``bundle/configs``; absolute ones stay as they are."""
    return [str(CONFIGS / name) for name in names]
