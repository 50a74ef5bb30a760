"""A config's mistakes, found before any work: references to nothing, components and arguments that do not exist.

MONAI meets them one by one while it builds the components, the last perhaps after hours, in a traceback that quotes the whole
component. Here all of them are told at once, each with its file, its id and the nearest name that would do.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pydoc import locate
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from .config_files import merged, read_config
from .errors import RequestError

_RESERVED = ConfigComponent.non_arg_keys | {"_wrapped_"}


def require_sound(files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Check the merged config.

    Args:
        files: config files, an overlay after what it lies on.
        overrides: options of the command line by id.

    Raises:
        RequestError: it refers to ids that are not there, or names components or arguments that do not exist.
    """
    config = merged(files)
    for name, value in overrides.items():
        config[name] = value
    origins = [("the command line", tuple(overrides))]
    origins += [(file, tuple(read_config(file))) for file in reversed(files)]
    ids = [spelled(name) for name, _ in nested(config[""])]
    faults = []
    for name, value in nested(config[""]):
        found = [(name, fault) for fault in _missing_references(config, name, value, ids)]
        found += [(f"{name}{ID_SEP_KEY}{key}", fault) for key, fault in _missing_components(value)]
        for place, fault in found:
            where = next(source for source, keys in origins if any(_holds(key, place) for key in keys))
            faults.append(f"{where}: {spelled(place)}: {fault}")
    if faults:
        raise RequestError("\n       ".join(faults))


def _holds(key: str, name: str) -> bool:
    """Whether a file's entry ``key``, perhaps one that adds to (``+``) or removes from what it lies on, says what ``name`` is."""
    key = key.lstrip("+~").replace("#", ID_SEP_KEY)
    return f"{name}{ID_SEP_KEY}".startswith(f"{key}{ID_SEP_KEY}")


def nested(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield id and value of everything inside ``config``, the levels of an id joined as MONAI joins them."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        yield f"{prefix}{key}", value
        yield from nested(value, f"{prefix}{key}{ID_SEP_KEY}")


def spelled(name: str) -> str:
    """An id as people write it."""
    return name.replace(ID_SEP_KEY, "#")


def _missing_references(config: ConfigParser, name: str, value: Any, ids: Sequence[str]) -> Iterator[str]:
    if not isinstance(value, str):
        return
    for reference in ReferenceResolver.match_refs_pattern(ConfigParser.resolve_relative_ids(name, value)):
        if reference and reference not in config:
            yield f"refers to @{spelled(reference)}, which is not there{_nearest(spelled(reference), ids, '@')}"


def _missing_components(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the entries of a component that name what does not exist, and what is wrong with them."""
    if not ConfigComponent.is_instantiable(value) or not isinstance(value["_target_"], str):
        return
    target = value["_target_"]
    if target.startswith(("$", "@", "%")):
        return
    path = ConfigComponent(value, locator=_LOCATOR).resolve_module_name()
    component: Any = locate(path) if isinstance(path, str) else path
    if component is None:
        yield "_target_", f"there is no {target}{_nearest(target, _names_beside(target))}"
        return
    try:
        parameters = _parameters(component)
    except (TypeError, ValueError):  # written in C
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY]
    for argument in value:
        if argument not in _RESERVED and argument not in known:
            near = _nearest(argument, known)
            remedy = "; expected one that it takes: leave it out, or name before it an overlay whose component takes it"
            yield argument, f"{target} takes no argument {argument}{near or remedy}"


def _parameters(component: Any) -> list[inspect.Parameter]:
    """What a component takes; of a class of ours that hands ``**common`` on to its bases what these take, too.

    ``**parts: Annotated[bool, Parts]`` takes what the class ``Parts`` does.
    """
    found = list(inspect.signature(component).parameters.values())
    ours = inspect.isclass(component) and component.__module__.startswith(f"{_SCRIPTS}.")
    bases = [base for base in component.__mro__[1:] if "__init__" in vars(base)] if ours else []
    while found and found[-1].kind is inspect.Parameter.VAR_KEYWORD:
        if stated := getattr(found[-1].annotation, "__metadata__", ()):
            taken = list(inspect.signature(stated[0]).parameters.values())
        elif bases:
            taken = list(inspect.signature(vars(bases.pop(0))["__init__"]).parameters.values())[1:]  # without self
        else:
            break
        found = [*found[:-1], *taken]
    return found


_SCRIPTS = __name__.partition(".")[0]
_LOCATOR = ComponentLocator()


def _names_beside(target: str) -> list[str]:
    """Full names of what a module holds, or of all that MONAI knows by a bare name."""
    module, _, _ = target.rpartition(".")
    if not module:
        return list(_LOCATOR._components_table or ())
    try:
        return [f"{module}.{name}" for name in vars(importlib.import_module(module)) if not name.startswith("_")]
    except ImportError:
        parent, _, _ = module.rpartition(".")
        return _names_beside(module) if parent else []


def _nearest(name: str, known: Sequence[str], mark: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; the nearest is {mark}{close[0]}" if close else ""
