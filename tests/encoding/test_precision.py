"""What ``auto`` stands for, and that a data set is encoded in one precision."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from encoding.encoding_requests import encode_all, job_of
from encoding.painted import MeanEncoder, write_painted_slide
from training.embedding_files import write_embedding, write_foreign

from scripts.common.errors import RequestError
from scripts.common.journal import read_journals
from scripts.common.option_words import Precision
from scripts.encoding import engine_choice, precision
from scripts.encoding.embedding_file import header_of
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.precision import native_precision, precision_like, with_precision
from scripts.encoding.settings import EncodingSettings

AUTO = {"precision": "auto"}
WITHOUT = "flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 avx512_bf16_of_no_such\n"


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel says of the processor: it has no bfloat16."""
    described = tmp_path / "cpuinfo"
    described.write_text(WITHOUT)
    monkeypatch.setattr(precision, "CPU_INFO", described)
    return described


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (WITHOUT, "float32"),
        ("flags\t\t: fpu avx512f avx512_bf16 vaes\n", "bfloat16"),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", "bfloat16"),
        ("Features\t: fp asimd i8mm bf16\n", "bfloat16"),
        (None, "float32"),
    ],
)
def test_a_processor_that_multiplies_bfloat16_itself(processor: Path, described: str | None, expected: str) -> None:
    if described is None:
        processor.unlink()
    else:
        processor.write_text(described)
    assert native_precision("cpu") == expected
    assert native_precision(torch.device("cuda", 0)) == "float32"


def test_auto_is_never_what_a_file_or_a_journal_says(processor: Path, tmp_path: Path) -> None:
    processor.write_text("flags: avx512_bf16")
    encode_all(write_painted_slide(tmp_path / "a.tif"), tmp_path / "out", MeanEncoder, settings=AUTO)
    header = header_of(tmp_path / "out" / "a.h5")
    assert header.precision == header.attributes["precision"] == "bfloat16"
    assert json.loads(header.attributes["parameters"])["precision"] == "bfloat16"
    (journal,) = read_journals(tmp_path / "out")
    assert journal.request["precision"] == "bfloat16"


@pytest.mark.parametrize("part", [{}, {"shard": "2/2"}])
def test_another_machine_goes_on_as_the_first_began(processor: Path, tmp_path: Path, part: dict[str, str]) -> None:
    """Resumed, or in a further shard: files that are there are kept, and new ones are of the same precision."""
    slides = tmp_path / "slides"
    for name in ("a", "b"):
        write_painted_slide(slides / f"{name}.tif")
    first = encode_all(slides, tmp_path / "out", MeanEncoder, settings=AUTO, shard="1/2")
    processor.write_text("flags: avx512_bf16")
    second = encode_all(slides, tmp_path / "out", MeanEncoder, settings=AUTO, **part)
    assert {row.slide_id: row.status for row in (*first, *second)} == {"a": "done", "b": "done"} | (
        {} if part else {"a": "skipped"}
    )
    assert {header_of(tmp_path / "out" / f"{name}.h5").precision for name in ("a", "b")} == {"float32"}


def test_a_folder_that_was_copied_without_its_record_is_not_mixed(processor: Path, tmp_path: Path) -> None:
    """The embeddings say their precision themselves; files that say none, or cannot be read, do not matter."""
    slides = [write_painted_slide(tmp_path / f"{name}.tif") for name in ("a", "b")]
    encode_all(slides[0], tmp_path / "out", MeanEncoder, settings=AUTO)
    processor.write_text("flags: avx512_bf16")
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "out" / "a.h5", copy)
    write_foreign(copy / "theirs.h5", np.array([[0, 0]]), channels=6)
    (copy / "junk.h5").write_bytes(b"no HDF5")
    for slide, expected in zip(slides, ("skipped", "done"), strict=True):
        (entry,) = encode_all(slide, copy, MeanEncoder, settings=AUTO)
        assert entry.status == expected
    assert {header_of(copy / f"{name}.h5").precision for name in ("a", "b")} == {"float32"}


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"patch_um": 32.0}])
def test_what_is_named_does_not_mix_a_folder_without_its_record_either(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """As where inference encodes new slides there, in the precision of its model; ``replace`` replaces the same slides alone."""
    slides = [write_painted_slide(tmp_path / f"{name}.tif") for name in ("a", "b")]
    encode_all(slides[0], tmp_path / "out", MeanEncoder)
    for path in [*(tmp_path / "out").glob(".*"), tmp_path / "out" / "manifest.csv"]:
        path.unlink()
    for replace in (False, True):
        with pytest.raises(RequestError, match=rf"a\.h5: made for another request \({next(iter(settings))} was"):
            encode_all(slides[1], tmp_path / "out", MeanEncoder, settings=settings, replace=replace)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.h5"]
    (entry,) = encode_all(slides[0], tmp_path / "out", MeanEncoder, settings=settings, replace=True)
    assert entry.status == "done"


def test_a_folder_without_a_record_that_is_mixed_already(processor: Path, tmp_path: Path) -> None:
    for name, stated in (("a", "float32"), ("b", "bfloat16")):
        write_embedding(tmp_path / "out" / f"{name}.h5", precision=stated)
    with pytest.raises(RequestError, match="embeddings in bfloat16 and in float32, expected one precision"):
        encode_all(write_painted_slide(tmp_path / "c.tif"), tmp_path / "out", MeanEncoder, settings=AUTO)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.h5", "b.h5"]


@pytest.mark.parametrize(
    ("stated", "device", "expected"),
    [
        (None, "cuda", "float32"),
        ("float16", "cuda", "float16"),
        ("float16", "cpu", "float32"),
        ("bfloat16", "cpu", "bfloat16"),
        ("bfloat16", "cuda:1", "float32"),
        ("bfloat16", "cuda:2", "bfloat16"),
        ("float32", "cuda:1", "float32"),
    ],
)
def test_the_precision_of_other_embeddings_where_the_device_has_it(
    monkeypatch: pytest.MonkeyPatch, stated: Precision | None, device: str, expected: str
) -> None:
    """cuda:1 is a GPU without bfloat16."""
    monkeypatch.setattr(engine_choice, "gpu_has_bfloat16", lambda asked: asked.index != 1)
    assert precision_like(stated, device) == expected


def test_a_gpu_that_only_emulates_bfloat16_does_not_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(asked.append(device)))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert engine_choice.gpu_has_bfloat16(torch.device("cuda", 1)) is False
    assert asked == [torch.device("cuda", 1)]
    with pytest.raises(
        RequestError, match="'bfloat16', which this GPU does not compute with: expected float32 or float16"
    ):
        NamedEncoder(MeanEncoder(), device=torch.device("cuda"), precision="bfloat16")


def test_a_precision_that_was_named_stays(processor: Path, tmp_path: Path) -> None:
    processor.write_text("flags: avx512_bf16")
    job = job_of(tmp_path / "out", MeanEncoder, settings={"precision": "float32"})
    assert with_precision(job) is job


def test_auto_must_be_known_before_a_slide_is_encoded(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="precision is 'auto', expected one that is known"):
        job_of(tmp_path / "out", MeanEncoder, settings=AUTO).prepare()
    with pytest.raises(RequestError, match="precision 'auto': expected one of float32, bfloat16, float16"):
        NamedEncoder(MeanEncoder(), device=torch.device("cpu"), precision="auto")  # type: ignore[arg-type]
    assert EncodingSettings(**AUTO).precision == "auto"


@pytest.mark.parametrize(("stated", "known"), [(None, "float32"), ("int8", None)])
def test_a_file_that_states_no_precision_of_ours(tmp_path: Path, stated: str | None, known: str | None) -> None:
    """One of before has it among its parameters."""
    encode_all(write_painted_slide(tmp_path / "a.tif"), tmp_path / "out", MeanEncoder)
    path = tmp_path / "out" / "a.h5"
    with h5py.File(path, "r+") as file:
        del file.attrs["precision"]
        if stated:
            file.attrs["precision"] = stated
    assert header_of(path).precision == known
