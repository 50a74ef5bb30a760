"""What slides are called."""

import os
import unicodedata
from pathlib import Path

import pytest

from scripts.common.errors import RequestError
from scripts.slides.slide_ids import KnownIds, distinct_ids, known_ids, stem_of


def ids_of(*paths: str, known: KnownIds | None = None, given: list[str | None] | None = None) -> list[str]:
    return distinct_ids([Path("/data") / path for path in paths], given, known or KnownIds())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.svs", "a"),
        ("a.TIFF", "a"),
        ("a.ome.tif", "a.ome"),
        ("dots.in.name.ndpi", "dots.in.name"),
        ("TCGA-AB-1234-01Z-00-DX1.5E3D1B8A-0000-4C1E-8D52-6F1D6B9A2C11", "TCGA-AB-1234-01Z-00-DX1.5E3D1B8A-0000-4C1E-8D52-6F1D6B9A2C11"),
        ("TCGA-t0.uuid-t0.svs", "TCGA-t0.uuid-t0"),
        ("2023-03-06 23.51.44", "2023-03-06 23.51.44"),
        ("b.btf", "b"),
        ("c.czi", "c"),
        ("f.h5", "f"),
        ("trailing..tif", "trailing."),
        (r"D:\slides\a.tif", "D:_slides_a"),
        (os.fsdecode(b"M\xfcller.tif"), "M%FCller"),
    ],
)  # fmt: skip
def test_the_suffix_of_a_slide_alone_is_dropped(name: str, stem: str) -> None:
    assert stem_of(Path(name)) == stem == ids_of(name)[0]


def test_folders_of_the_path_as_written_tell_apart_what_links_do_not(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for site, key in (("siteA", "9f3a.tif"), ("siteB", "77be.tif")):
        for folder in (store, tmp_path / site):
            folder.mkdir(exist_ok=True)
        (store / key).touch()
        (tmp_path / site / "01.tif").symlink_to(store / key)
    assert distinct_ids([tmp_path / "siteA" / "01.tif", tmp_path / "siteB" / "01.tif"]) == ["siteA_01", "siteB_01"]


def test_names_that_differ_in_case_or_in_composition_alone_are_told_apart() -> None:
    assert ids_of("x/A.tif", "y/a.tif") == ["x_A", "y_a"]
    composed = unicodedata.normalize("NFC", "é.tif")
    assert [name[:2] for name in ids_of(f"x/{composed}", f"y/{unicodedata.normalize('NFD', composed)}")] == ["x_", "y_"]
    with pytest.raises(RequestError, match=r"would have one name.*column slide_id"):
        ids_of("x/A.tif", "x/a.tif")


def test_an_id_that_is_given_stays_and_the_others_make_way() -> None:
    assert ids_of("x/a.tif", "y/b.tif", given=["b", None]) == ["b", "y_b"]
    with pytest.raises(RequestError, match=r"/data/y/b\.tif: slide_id 'q' is that of /data/x/a\.tif too"):
        ids_of("x/a.tif", "y/b.tif", given=["Q", "q"])


def test_an_id_that_a_slide_has_in_the_folder_stays_whatever_else_is_listed(tmp_path: Path) -> None:
    (tmp_path / "01.h5").touch()
    (tmp_path / "manifest.csv").write_text("slide_id,slide\n01,/data/siteA/01.tif\n../x,/data/siteC/01.tif\n")
    known = known_ids(tmp_path)
    assert known == KnownIds(frozenset({"01"}), {"/data/siteA/01.tif": "01"})
    assert ids_of("siteA/01.tif", "siteB/01.tif", known=known) == ["01", "siteB_01"]
    assert ids_of("siteB/01.tif", "siteA/../siteA/01.tif", known=known) == ["siteB_01", "01"]


@pytest.mark.parametrize("folder", ["embeddings", "linked"])
def test_a_slide_has_its_id_wherever_it_is_looked_at_from(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the slide of another site, whose embedding is called by the stem that they share, is taken for it."""
    for name in ("siteA", "siteB", "embeddings", "deep/down"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "embeddings")
    (tmp_path / "deep" / "siteB").symlink_to(tmp_path / "siteB")
    (tmp_path / "embeddings" / "manifest.csv").write_text(
        "slide_id,slide\n01,../siteA/01.tif\nsiteB_01,../siteB/01.tif\n"
    )
    for cwd in (tmp_path, tmp_path / "siteB", tmp_path / "embeddings", tmp_path / "deep" / "down"):
        monkeypatch.chdir(cwd)
        known = known_ids(os.path.relpath(tmp_path / folder))
        assert distinct_ids([Path(os.path.relpath(tmp_path / "siteB" / "01.tif"))], known=known) == ["siteB_01"]
        assert distinct_ids([tmp_path / "deep" / "siteB" / "01.tif"], known=known) == ["siteB_01"]


def test_a_slide_alone_finds_the_embedding_that_it_has_beside_others() -> None:
    known = KnownIds(frozenset({"x_03", "y_03", "w"}))
    assert ids_of("x/03.tif", "y/03.tif", known=known) == ["x_03", "y_03"]
    assert ids_of("x/03.tif", known=known) == ["x_03"]
    assert ids_of("v/w.tif", "v/u.tif", known=known) == ["w", "u"]


def test_an_embedding_of_another_slide_is_not_taken_for_its_own() -> None:
    """x_03.h5 may be that of a file called x_03.tif."""
    known = KnownIds(frozenset({"x_03"}), {"/data/x_03.tif": "x_03"})
    assert ids_of("x/03.tif", known=known) == ["03"]
    moved = KnownIds(frozenset({"x_03"}), {"/elsewhere/x/03.tif": "x_03"})
    assert ids_of("x/03.tif", known=moved) == ["x_03"]


@pytest.mark.parametrize("content", ["", "slide\n", "slide_id,slide\n,\n", b"\xff\xfe", "slide_id,slide\n01\n"])
def test_a_manifest_that_tells_nothing_is_no_error(content: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "manifest_long.csv").write_text('slide_id,slide\na,"' + "x" * 200_000)
    (tmp_path / "manifest_nul.csv").write_text("slide_id,slide\na,b\0/c.tif\n")
    assert known_ids(tmp_path) == KnownIds() == known_ids(tmp_path / "gone")


def test_a_hash_stands_for_the_end_of_a_name_too_long_for_outputs() -> None:
    assert ids_of("a" * 250 + ".tif") == ["a" * 250]
    first, second = ids_of("a" * 251 + ".tif", "a" * 250 + "b.tif")
    assert first != second and {len(first), len(second)} == {250}
    assert first.startswith("a" * 241 + "_") and ids_of("a" * 251 + ".tif") == [first]
    assert len(ids_of("片" * 83 + "ab.tif")[0].encode()) in (247, 248, 249, 250)
    nested = ids_of(f"x/{'a' * 249}.tif", f"y/{'a' * 249}.tif")
    assert len(set(nested)) == 2 and all(len(name) == 250 for name in nested)


def test_a_given_id_too_long_for_a_file_is_refused_with_the_remedy() -> None:
    with pytest.raises(RequestError, match=r"has 251 bytes.*column slide_id"):
        distinct_ids([Path("x.tif")], ["a" * 251])
