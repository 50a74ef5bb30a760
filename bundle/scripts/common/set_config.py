"""Values put into a config that is in use already.

MONAI merges the command line into the config before anything of ours runs, and does not give its parser to a component. The
resolver that builds the component is on the stack, though.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from .errors import RequestError


def resolver_in_use() -> ReferenceResolver | None:
    """Return the resolver that builds the calling component, or evaluates the calling expression; None where none does."""
    return next(resolvers_in_use(), None)


def resolvers_in_use() -> Iterator[ReferenceResolver]:
    """Yield the resolver of :func:`resolver_in_use`, then those of the configs whose stages run that one, each once."""
    frame, last = inspect.currentframe(), None
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, ReferenceResolver) and found is not last:
            last = found
            yield found
        frame = frame.f_back


def set_in_config(values: Mapping[str, Any], resolver: ReferenceResolver | None) -> None:
    """Put values into the config of a resolver, for everything that is resolved from now on.

    Args:
        values: by id.
        resolver: of `resolver_in_use`.

    Raises:
        RequestError: the config cannot be reached; nothing is then taken for another value than was meant.
    """
    for name, value in values.items():
        item = None if resolver is None else resolver.get_item(name)
        if resolver is None or item is None:
            raise RequestError(
                f"--{name.replace(ID_SEP_KEY, '#')}: this version of MONAI does not take {value!r} from here; write it in a "
                "config file"
            )
        item.update_config(value)
        resolver.resolved_content[name] = value  # some are resolved already, as bundle_root, which led here
        parent, _, key = name.rpartition(ID_SEP_KEY)
        holder = resolver.get_item(parent)
        content = holder.get_config() if holder else None  # the same objects as in the config's tree
        if isinstance(content, dict):
            content[key] = value
        elif isinstance(content, list):
            content[int(key)] = value
