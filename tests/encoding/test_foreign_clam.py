"""What the page on features of other tools makes of our embeddings for CLAM, whatever slides are called."""

import csv
from pathlib import Path

import pytest
from docs_blocks import REPO, blocks_of
from training.embedding_files import write_embedding, write_table

UIDS = ("1.2.840.113619.1", "1.2.840.113619.2")


def test_every_embedding_is_there_for_clam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides listed without a suffix, as DICOM files often are; a patient, and a slide that failed."""
    embeddings = tmp_path / "work" / "embeddings"
    embeddings.mkdir(parents=True)
    for uid in UIDS:
        write_embedding(embeddings / f"{uid}.h5")
    slides = [*UIDS, "failed.svs"]
    write_table(embeddings, [{"slide": f"../dicom/{name}", "label": 1, "patient": name[-1]} for name in slides])
    monkeypatch.chdir(tmp_path)
    _, block = (block for block in blocks_of(REPO / "docs" / "how-to" / "features.md") if block.language == "python")
    exec(block.text, {})
    for folder, suffix in (("pt_files", "pt"), ("h5_files", "h5")):
        found = (path.name for path in (tmp_path / "work" / "for_clam" / folder).iterdir())
        assert sorted(found) == [f"{uid}.{suffix}" for uid in UIDS]
    with open(tmp_path / "work" / "for_clam" / "labels.csv", newline="") as file:
        assert list(csv.reader(file)) == [["case_id", "slide_id", "label"], *([uid[-1], uid, "1"] for uid in UIDS)]
