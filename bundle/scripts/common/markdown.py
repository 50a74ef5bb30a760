"""Pages of Markdown, each from a template of Jinja in the folder of the stage that writes it."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from .files import atomic_path


def write_markdown(path: Path, template: Path, **values: Any) -> str:
    """Render a template, write the page and return it; what it names and is not given is an error.

    Args:
        path: the file.
        template: in Jinja's language; ``{{ x | number }}`` writes three decimals, or "undefined".
        values: what it names.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["number"] = number
    page = environment.from_string(template.read_text(encoding="utf-8")).render(values)
    with atomic_path(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return page


def number(value: float | None, undefined: str = "undefined", *, form: str = ".3f") -> str:
    """A figure for a page or a line of the log."""
    return undefined if value is None else f"{value:{form}}"
