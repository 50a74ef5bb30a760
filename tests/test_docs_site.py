"""What ``make docs`` refuses, besides MkDocs' own warnings: links, anchors, docstrings."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

docs_site = pytest.importorskip("docs_site", reason="no MkDocs: make docs installs it")


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<script src="https://a.example/b.js">', "https://a.example/b.js"),
        ("<link rel=icon href=//a.example/b.png>", "//a.example/b.png"),
        ('<a href="https://a.example"><img src="b.svg">', None),
    ],
)
def test_a_site_that_loads_from_elsewhere_is_refused(html: str, found: str | None, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    assert docs_site.loaded_from_elsewhere(tmp_path) == ([f"page.html: {found}"] if found else [])


def test_its_end_is_that_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<img src="//a.example/b.png">', encoding="utf-8")
    with pytest.raises(docs_site.PluginError, match=r"without a network.*page\.html: //a\.example"):
        docs_site.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
