"""Config files as they stand and as they lie on each other, each read once."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from .errors import RequestError

LIES_ON = "lies_on"
"""Key of an overlay: the config that it lies on, or a list of those that it may lie on."""

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def read_config(file: str) -> dict[str, Any]:
    """Return what a file holds, its keys as they stand there (``a#b``, ``+a``); it is kept, and must not be changed."""
    path = Path(file).absolute()
    return _read(path, path.stat().st_mtime_ns)


@functools.cache
def _read(path: Path, changed_ns: int) -> dict[str, Any]:
    return ConfigParser.load_config_file(path) or {}


def lay(parser: ConfigParser, content: Mapping[str, Any]) -> None:
    """Lay an overlay's content on a config, as MONAI does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what an overlay adds to and is not there
        for key, value in content.items():
            merge_kv(parser, key, deepcopy(value))


def merged(files: Sequence[str]) -> ConfigParser:
    """Return the config that files make, an overlay after what it lies on."""
    parser = ConfigParser(config={})
    for file in files:
        lay(parser, read_config(file))
    return parser


def bases_of(file: str) -> list[str]:
    """Names of the configs that a file lies on; none of a stage's own."""
    bases = read_config(file).get(LIES_ON) or []
    return [bases] if isinstance(bases, str) else list(bases)


def refuse_misplaced(files: Sequence[str]) -> None:
    """Refuse an overlay that is named without what it lies on, before it or twice.

    A stage's config under a name that the bundle does not have may be a copy of any.

    Raises:
        RequestError: names the overlay and what it lies on.
    """
    shipped = {path.name for path in CONFIGS.glob("*.yaml")}
    for index, file in enumerate(files):
        name, before = Path(file).name, files[:index]
        if Path(file).resolve() in [Path(other).resolve() for other in before]:
            raise RequestError(f"{name} is named twice in --config_file: name it once")
        bases = bases_of(file)
        stages = [Path(other).name for other in before if not bases_of(other)]
        if bases and not any(stage in bases or stage not in shipped for stage in stages):
            both = " and ".join(bases) if len(bases) == 1 else f"{' or '.join(bases)}"
            how = f"['{bases[0]}','{name}']"
            raise RequestError(f'{name} is an overlay on {both}: name both, in this order, --config_file "{how}"')
