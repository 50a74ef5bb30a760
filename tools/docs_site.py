"""What MkDocs adds to ``docs/`` (hooks of mkdocs.yml): pages made from the configs and the code, and READMEs that lie elsewhere."""

import ast
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

REPO = Path(__file__).resolve().parents[1]
CONFIGS, SCRIPTS = REPO / "bundle" / "configs", REPO / "bundle" / "scripts"
sys.path.insert(0, str(SCRIPTS.parent))

from scripts.common.config_files import bases_of, merged  # noqa: E402
from scripts.common.config_help import read_head, read_options  # noqa: E402
from scripts.common.option_table import named, options_of  # noqa: E402

FLOW = (
    "doctor",
    "demo_data",
    "datalist",
    "split",
    "sample",
    "train_scae",
    "search_sparsity",
    "encode",
    "train",
    "inference",
    "kfold",
)
INTRODUCTION = """# Options of every stage

What `--help` prints, made from the same files, `bundle/configs`. Every stage is a MONAI bundle config; an option is a value at its top, and
`--name value` on the command line replaces it. A name that the files do not know is refused, with the nearest that they do.

Any other id can be replaced, too, its levels joined by `#`: `--validate#dataloader#batch_size 4`. Values are read as Python where they can
be (`3`, `1e-3`, `"['a','b']"`), `true`, `false` and `null` as in the configs, all else as text. `…` stands for the bundle's folder.
"""
_LOADED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\" >]+)")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a folder's pages where the navigation names the folder; leave out what has none."""
    pages = [
        *generated_pages(),
        *(path.relative_to(REPO / "docs").as_posix() for path in (REPO / "docs").rglob("*.md")),
    ]
    config.nav = _with_folders(config.nav or [], sorted({*pages, *_elsewhere().values()}))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in ``docs/``."""
    for name, content in generated_pages().items():
        files.append(File.generated(config, name, content=content))
    for source, name in _elsewhere().items():
        files.append(File.generated(config, name, content=(REPO / source).read_text(encoding="utf-8")))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that needs a network.

    Raises:
        PluginError: a page loads something from elsewhere.
    """
    if found := loaded_from_elsewhere(Path(config.site_dir)):
        raise PluginError("pages are to be read without a network, and load " + ", ".join(found))


def loaded_from_elsewhere(site: Path) -> list[str]:
    """What the pages of a folder load from another host, after the page's name."""
    return [
        f"{page.relative_to(site)}: {address}"
        for page in sorted(site.rglob("*.html"))
        for address in _LOADED.findall(page.read_text(encoding="utf-8"))
    ]


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages, wherever their sources lie; a link to a file that is no page becomes its text."""
    name = page.file.src_uri
    elsewhere = _elsewhere()
    source = next((path for path, target in elsewhere.items() if target == name), f"docs/{name}")

    def on_the_site(match: re.Match[str]) -> str:
        mark, text, link, anchor = match.groups(default="")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif target in elsewhere:
            target = elsewhere[target]
        elif (REPO / target).exists():
            return str(text)
        else:
            return match[0]  # MkDocs says that it leads nowhere
        return f"{mark}[{text}]({posixpath.relpath(target, posixpath.dirname(name) or '.')}{anchor})"

    return markdown if name in generated_pages() else _LINK.sub(on_the_site, markdown)


def generated_pages() -> dict[str, str]:
    """Pages by name: the options of every stage, the modules of every folder of code."""
    pages = {"reference/options.md": "\n".join(_options_page())}
    folders = sorted(path.parent for path in SCRIPTS.glob("*/__init__.py"))
    rows = [f"- [`{folder.name}`]({folder.name}.md): {_first_line(folder / '__init__.py')}" for folder in folders]
    pages["reference/python/index.md"] = (
        "# Python\n\nThe code of `bundle/scripts`, one folder per stage.\n\n" + "\n".join(rows)
    )
    for folder in folders:
        modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
        parts = [f"::: scripts.{folder.name}.{module}" for module in modules]
        head = f"# {folder.name}\n\n{_first_line(folder / '__init__.py')}\n\n"
        pages[f"reference/python/{folder.name}.md"] = head + "\n\n".join(parts)
    return pages


def _options_page() -> Iterator[str]:
    yield INTRODUCTION
    files = sorted(CONFIGS.glob("*.yaml"), key=lambda path: ((*FLOW, path.stem).index(path.stem), path.stem))
    stages = [path for path in files if not bases_of(str(path))]
    for path in stages:
        yield from _options_of(path)
    yield "## Overlays\n"
    yield "Laid over a stage's config: `--config_file \"['bundle/configs/train.yaml','bundle/configs/evaluate.yaml']\"`. Those of the"
    yield "[ablations](../ablations.md) lie in `bundle/configs/ablations`.\n"
    for path in files:
        if path not in stages:
            yield from _options_of(path, level=3)


def _options_of(path: Path, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {path.name}\n"
    in_code = False
    for line in read_head(str(path)):
        if line.startswith("  ") != in_code:
            in_code = not in_code
            yield "\n```bash" if in_code else "```\n"
        yield line
    yield "```\n" if in_code else ""
    options = read_options([str(path)])
    if options:
        yield "| option | default | meaning | may be |\n|---|---|---|---|"
    types = options_of(merged([str(path)])[""])
    for name, (default, meaning) in options.items():
        shown = (
            re.sub(r"^\$@(?:root|output_dir) \+ '(.*)'$", lambda match: f"…{match[1]}", default)
            .removeprefix("$")
            .replace("|", "\\|")
        )
        type_ = named(name, types)
        may_be = type_.expected if type_ else ""
        yield f"| `--{name}` | `{shown}` | {meaning.replace('|', chr(92) + '|')} | {may_be.replace('|', chr(92) + '|')} |"
    yield ""


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _elsewhere() -> dict[str, str]:
    """Sources outside ``docs/`` and the names of their pages."""
    found = {
        path.relative_to(REPO).as_posix(): f"integrations/{path.parent.name}.md"
        for path in REPO.glob("integrations/*/README.md")
    }
    return {
        **found,
        "bundle/docs/README.md": "bundle.md",
        "CONTRIBUTING.md": "contributing.md",
        "CHANGELOG.md": "changelog.md",
    }


def _with_folders(entries: list[Any], pages: list[str]) -> list[Any]:
    shown: list[Any] = []
    for entry in entries:
        title, value = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(value, list):
            shown.append({title: _with_folders(value, pages)})
        elif str(value).endswith("/"):
            inside = [page for page in pages if posixpath.dirname(page) + "/" == value]
            shown += (
                [{title: sorted(inside, key=lambda page: (not page.endswith("/index.md"), page))}] if inside else []
            )
        else:
            shown.append(entry)
    return shown
