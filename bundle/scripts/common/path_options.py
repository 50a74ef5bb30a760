"""Options that are paths: taken as they were typed, and never evaluated.

MONAI runs a text that begins with ``$`` as Python and replaces one that begins with ``@`` or ``%`` by another part of a config; Fire turns
a folder called ``2024`` into a number and ``a,b`` into a tuple. A path is none of these.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.bundle.utils import ID_SEP_KEY

from .errors import RequestError

ONE_PATH = frozenset(
    {
        "bundle_root", "dataset_dir", "encoder", "evaluation_dir", "log_dir", "masks", "model", "models_dir", "output_dir",
        "predictions_dir", "reference", "seeds", "slide_folder", "slides",
    }
)  # fmt: skip
"""Options, or arguments of components, of any stage that are one path."""

PATH_OPTIONS = ONE_PATH | {"first", "folder", "folds", "overlays", "path", "second", "weights"}
"""These, those that may be a list of paths or, elsewhere, numbers or a component, and arguments of components alone."""

_EVALUATED = ("$", "@", "%")


def is_path(option: str) -> bool:
    """Whether an option, an id such as ``slides`` or ``manifest#slides``, is a path or several."""
    return option.rpartition(ID_SEP_KEY)[2] in PATH_OPTIONS


def refuse_evaluated(options: Mapping[str, Any]) -> None:
    """Refuse paths that MONAI would evaluate.

    Args:
        options: values by id.

    Raises:
        RequestError: names the first such option.
    """
    for name, value in options.items():
        for text in _texts(value) if is_path(name) else ():
            if text.lstrip().startswith(_EVALUATED):
                raise RequestError(
                    f"--{name.replace(ID_SEP_KEY, '#')} {text!r}: begins with {text.lstrip()[0]}, which would be evaluated; "
                    "expected a path: write ./ or its folder before it"
                )


def typed_paths(options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, str | None]:
    """Return the options of `ONE_PATH` as they were typed, by id.

    Args:
        options: values by id, as Fire or a file of arguments gives them.
        arguments: the words of the command line.

    Raises:
        RequestError: an option has no value.
    """
    typed = dict(_typed(arguments))
    paths: dict[str, str | None] = {}
    for name, value in options.items():
        if name.rpartition(ID_SEP_KEY)[2] not in ONE_PATH:
            continue
        if value is None or (isinstance(value, str) and value.lower() == "null"):
            paths[name] = None
        elif isinstance(value, str):
            paths[name] = value
        elif value is True and name not in typed:
            raise RequestError(
                f"--{name.replace(ID_SEP_KEY, '#')}: no value, expected a path: write it behind the option"
            )
        else:
            paths[name] = typed.get(name, str(value))
    return paths


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)


def _typed(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield option and text of ``--name text`` and ``--name=text``."""
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        if not word.startswith("--"):
            continue
        name, assigned, text = word[2:].partition("=")
        if assigned or not following.startswith("--"):
            yield name.replace("-", "_").replace("#", ID_SEP_KEY), text if assigned else following
