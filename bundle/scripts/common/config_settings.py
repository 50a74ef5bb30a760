"""What a run is made of, taken from its config: the values of some ids and of all that they refer to."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from monai.bundle.config_item import ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_REF_KEY, ID_SEP_KEY

from .config_check import spelled
from .errors import RequestError
from .set_config import resolver_in_use

WITHOUT_EFFECT = frozenset(
    {
        "allow_missing", "amp", "cache_rate", "checkpointing", "classes", "data", "dataset_dir", "device", "gib", "handlers",
        "levels", "masks", "max_epochs", "memory", "network", "num_workers", "path", "sampler", "seeds", "shuffle", "slides",
        "thumbnail_levels", "train_handlers", "val_handlers",
    }
)  # fmt: skip
"""Names of options and arguments that may differ between a training and its resumption.

They say where it runs, how fast, on how many processes, and what it reports; or, as ``slides``, ``data`` and ``classes``, they lead
to what ``content`` of :func:`settings_of` states as it is.
"""

Plain = str | int | float | bool | None


def settings_of(ids: Iterable[str], content: Mapping[str, Any]) -> dict[str, Plain]:
    """Values that decide what comes out, by id: those below ``ids`` in the caller's config, and those that these refer to.

    An expression over values counts as its value, one over components as its text; an object that a program has put in place of a
    component counts as its type. What is called as in `WITHOUT_EFFECT` is left out, with all that it refers to.

    Args:
        ids: of the config.
        content: what stands for the files that are read, and for options that are left out, by name.

    Raises:
        RequestError: the caller is no component of a config.
    """
    resolver = resolver_in_use()
    if resolver is None:
        raise RequestError("settings: made outside of a config, expected a component of one: run it by monai.bundle")
    settings = {name: _plain(value) for name, value in content.items()}
    seen: set[str] = set()
    for name in ids:
        settings |= _values(resolver, ReferenceResolver.normalize_id(name), seen)
    return settings


def _values(resolver: ReferenceResolver, name: str, seen: set[str]) -> Iterator[tuple[str, Plain]]:
    """Yield id and value of every leaf below ``name`` that was not seen before, and of those that they refer to."""
    key = name.rpartition(ID_SEP_KEY)[2]
    if name in seen or key in WITHOUT_EFFECT:
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
