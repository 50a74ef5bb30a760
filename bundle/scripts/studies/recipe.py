"""What a run trains: config files that are merged, under a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from monai.bundle import ConfigParser

from ..common.config_files import CONFIGS
from ..common.errors import RequestError


@dataclass(frozen=True)
class StudyRecipe:
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


OfStudy = TypeVar("OfStudy", bound=StudyRecipe)


@dataclass(frozen=True)
class Overlaid(StudyRecipe):
    """train.yaml with overlays on it.

    Attributes:
        overlays: config files that are laid over train.yaml; names may be of ``bundle/configs``.
    """

    overlays: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        """Config files of its training, in the order in which they are merged."""
        return config_paths("train.yaml", *self.overlays)


def recipes_named(what: str, names: Sequence[str] | None, known: Mapping[str, OfStudy]) -> list[OfStudy]:
    """Return the recipes of a study that are asked for, in the order of ``known``.

    Args:
        what: the option, for the error.
        names: of recipes; None: all.
        known: recipes by name.

    Raises:
        RequestError: there is no such recipe, or none is asked for.
    """
    names = list(known) if names is None else names
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise RequestError(f"{what} {', '.join(unknown) or 'none'}: expected some of {', '.join(known)}")
    return [recipe for name, recipe in known.items() if name in names]


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
