"""What a run is made of, taken from its config: the values of some ids and of all that they refer to."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from monai.bundle.config_item import ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_REF_KEY, ID_SEP_KEY

from .config_check import spelled
from .config_files import LIES_ON
from .errors import RequestError
from .option_table import OPTIONS
from .option_types import MARKS
from .set_config import resolver_in_use

WITHOUT_EFFECT = frozenset(
    {
        "allow_missing", "amp", "cache_rate", "checkpointing", "classes", "data", "dataset_dir", "device", "gib", "handlers",
        "levels", "masks", "max_epochs", "memory", "network", "num_workers", "path", "sampler", "seeds", "shuffle", "slides",
        "thumbnail_levels", "train_handlers", "val_handlers",
    }
)  # fmt: skip
"""Names of options and arguments that may differ between a run and its repetition, such as a resumed training.

They say where it runs, how fast, on how many processes, and what it reports; or, as ``slides``, ``data`` and ``classes``, they lead
to what ``content`` of :func:`settings_of` states as it is.
"""

IDS_WITHOUT_EFFECT = frozenset({"encoder", "model", "reading#backend", "reading#timeout_s"})
"""The same of whole ids, whose last parts may mean something else elsewhere."""

Plain = str | int | float | bool | None
_NOT_ASKED = ("initialize", "finalize", "imports", LIES_ON)
_COMPUTED = object()


def settings_of(ids: Iterable[str], content: Mapping[str, Any] | None = None) -> dict[str, Plain]:
    """Values that decide what comes out, by id: those below ``ids`` in the caller's config, and those that these refer to.

    An expression over values counts as its value, one over components as its text; an object that a program has put in place of a
    component counts as its type. What is called as in `WITHOUT_EFFECT` or `IDS_WITHOUT_EFFECT` is left out, with all that it
    refers to.

    Args:
        ids: of the config.
        content: what stands for the files that are read, and for options that are left out, by name.

    Raises:
        RequestError: the caller is no component of a config.
    """
    resolver = _resolver()
    settings = {name: _plain(value) for name, value in (content or {}).items()}
    seen: set[str] = set()
    for name in ids:
        settings |= _values(resolver, ReferenceResolver.normalize_id(name), seen)
    return settings


def stated() -> dict[str, Plain]:
    """What the caller's config asks for, by id: its options, and every value that stands in a component of it.

    What is handed down (``@id``) counts where it stands; what is computed from components, and what a list of components holds,
    does not count.

    Raises:
        RequestError: the caller is no component of a config.
    """
    resolver = _resolver()
    config = resolver.items[""].get_config()
    asked = {name: value for name, value in config.items() if not name.startswith("_") and name not in _NOT_ASKED}
    found = ((name, _asked(resolver, name, value)) for name, value in _leaves(asked))
    return {spelled(name): value for name, value in found if value is not _COMPUTED}


def _leaves(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield id and value of all that stands in a part of a config; a list is one value."""
    for key, value in part.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}{ID_SEP_KEY}")
        elif not key.startswith("_") or (key == "_disabled_" and isinstance(value, bool)):
            yield f"{prefix}{key}", value


def _asked(resolver: ReferenceResolver, name: str, value: Any) -> Any:
    """A leaf's value; `_COMPUTED` for one that says nothing of its own."""
    if isinstance(value, list):
        return str(value) if all(isinstance(item, Plain) and not _is_marked(item) for item in value) else _COMPUTED
    if not _is_marked(value):
        return value if isinstance(value, Plain) else str(value)
    if name not in OPTIONS and not (ConfigExpression.is_expression(value) and _is_plain(resolver, name)):
        return _COMPUTED
    computed = resolver.get_resolved_content(name)
    return computed if isinstance(computed, Plain) else str(computed)


def _is_marked(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(MARKS)


def _resolver() -> ReferenceResolver:
    resolver = resolver_in_use()
    if resolver is None:
        raise RequestError("settings: made outside of a config, expected a component of one: run it by monai.bundle")
    return resolver


def _values(resolver: ReferenceResolver, name: str, seen: set[str]) -> Iterator[tuple[str, Plain]]:
    """Yield id and value of every leaf below ``name`` that was not seen before, and of those that they refer to."""
    key = name.rpartition(ID_SEP_KEY)[2]
    if name in seen or key in WITHOUT_EFFECT or spelled(name) in IDS_WITHOUT_EFFECT:
        return
    seen.add(name)
    value = _raw(resolver, name)
    if isinstance(value, dict | list):
        for index in value if isinstance(value, dict) else range(len(value)):
            yield from _values(resolver, f"{name}{ID_SEP_KEY}{index}", seen)
        return
    references = _references(value)
    if ReferenceResolver.normalize_id(value) not in (f"{ID_REF_KEY}{reference}" for reference in references):
        yield spelled(name), _value(resolver, name, value)
    for reference in references:
        yield from _values(resolver, reference, seen)


def _value(resolver: ReferenceResolver, name: str, value: Any) -> Plain:
    """What a leaf counts as."""
    if not ConfigExpression.is_expression(value):
        return _plain(value)
    found = resolver.get_resolved_content(name) if _is_plain(resolver, name) else None
    return spelled(value) if found is None or not isinstance(found, Plain | list) else _plain(found)


def _raw(resolver: ReferenceResolver, name: str) -> Any:
    """A value as it stands in the config."""
    value: Any = resolver.items[""].get_config()
    for key in name.split(ID_SEP_KEY):
        value = value[key] if isinstance(value, dict) else value[int(key)]
    return value


def _references(value: Any) -> dict[str, int]:
    return ReferenceResolver.match_refs_pattern(value) if isinstance(value, str) else {}


def _is_plain(resolver: ReferenceResolver, name: str) -> bool:
    """Whether a leaf is a value, or an expression over values alone."""
    value = _raw(resolver, name)
    if not isinstance(value, str):
        return isinstance(value, Plain)
    return all(_is_plain(resolver, reference) for reference in _references(value))


def _plain(value: Any) -> Plain:
    if isinstance(value, Plain):
        return value
    return str(value) if isinstance(value, list | tuple) else f"{type(value).__module__}.{type(value).__qualname__}"
