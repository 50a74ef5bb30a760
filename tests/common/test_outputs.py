import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import h5py
import pytest
from filelock import FileLock

from scripts.common import lock
from scripts.common.errors import RequestError
from scripts.common.files import atomic_path, write_json
from scripts.common.journal import read_journals
from scripts.common.outputs import HeldOutputs

BUNDLE = Path(__file__).parents[2] / "bundle"


def wrote(folder: Path, model: str = "a", stage: str = "stage", name: str = "out.json", **options: bool) -> None:
    """One run of a stage that writes one file."""
    with HeldOutputs(folder, stage, {"model": model}, writes=[name], **options):
        write_json(folder / name, {"model": model})


def test_the_same_request_replaces_its_outputs_and_another_one_is_told_apart_by_name(tmp_path: Path) -> None:
    wrote(tmp_path)
    wrote(tmp_path)
    with pytest.raises(RequestError, match=r'model was "a", now "b".*--output_dir.*--replace true'):
        wrote(tmp_path, "b")
    assert '"a"' in (tmp_path / "out.json").read_text()


def test_what_another_request_left_is_removed_first_where_that_is_asked(tmp_path: Path) -> None:
    with HeldOutputs(tmp_path, "stage", {"model": "a"}):
        write_json(tmp_path / "slide1" / "map.json", {})
        write_json(tmp_path / "edited.json", {})
    (tmp_path / "edited.json").write_text("mine now")
    (tmp_path / "notes.txt").write_text("mine")
    wrote(tmp_path, "b", replace=True)
    left = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert left == ["edited.json", "notes.txt", "out.json"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("name", ["out.json", ".stage.lock", ".stage.owner.json", ".stage.outputs.jsonl"])
def test_a_foreign_file_is_never_replaced(tmp_path: Path, name: str, replace: bool) -> None:
    (tmp_path / name).write_bytes(b'{"theirs": 1}')
    with pytest.raises(RequestError, match=rf"{name}.*--output_dir.*move"):
        wrote(tmp_path, replace=replace)
    assert [path.name for path in tmp_path.iterdir()] == [name], "a refused request leaves nothing"
    assert (tmp_path / name).read_bytes() == b'{"theirs": 1}'


def test_an_edited_output_is_the_users(tmp_path: Path) -> None:
    wrote(tmp_path)
    (tmp_path / "out.json").write_text("corrected by hand")
    with pytest.raises(RequestError, match="was changed"):
        wrote(tmp_path, replace=True)


def test_a_link_or_folder_in_the_way_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    (tmp_path / "out.json").symlink_to(tmp_path / "theirs")
    (tmp_path / "slide1").write_text("a file where a folder of ours would be")
    with pytest.raises(RequestError, match=r"out\.json"):
        wrote(tmp_path)
    with pytest.raises(RequestError, match="slide1: is there"):
        HeldOutputs(tmp_path, "stage", {}, writes=["slide1/map.json"]).check()


def test_a_foreign_file_under_a_name_not_known_before_stops_the_writer(tmp_path: Path) -> None:
    with HeldOutputs(tmp_path, "stage", {}), pytest.raises(RequestError, match=r"late\.json"):
        (tmp_path / "late.json").write_text("theirs")
        write_json(tmp_path / "late.json", {})
    assert (tmp_path / "late.json").read_text() == "theirs"


def test_a_file_that_appears_while_ours_is_written_stays(tmp_path: Path) -> None:
    with (
        HeldOutputs(tmp_path, "stage", {}),
        pytest.raises(RequestError, match=r"late\.txt"),
        atomic_path(tmp_path / "late.txt") as partial,
    ):
        partial.write_text("ours")
        (tmp_path / "late.txt").write_text("theirs")
    assert (tmp_path / "late.txt").read_text() == "theirs"


def test_what_another_stage_wrote_is_replaced_only_where_that_is_asked(tmp_path: Path) -> None:
    wrote(tmp_path, stage="first")
    with pytest.raises(RequestError, match=r"written by first.*--replace true"):
        wrote(tmp_path, stage="second")
    wrote(tmp_path, stage="second", replace=True)


def test_a_copied_folder_is_known_too(tmp_path: Path) -> None:
    wrote(tmp_path / "a")
    subprocess.run(["cp", "-r", tmp_path / "a", tmp_path / "b"], check=True)
    wrote(tmp_path / "b")


def test_a_kill_between_journal_and_rename_leaves_a_known_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote(tmp_path)
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == "out.json":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt), HeldOutputs(tmp_path, "stage", {"model": "a"}):
        write_json(tmp_path / "out.json", {"other": "content"})
    monkeypatch.undo()
    wrote(tmp_path)


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    wrote(tmp_path)
    with open(tmp_path / ".stage.outputs.jsonl", "a") as journal:
        journal.write('{"file": "out')
    wrote(tmp_path)


def test_what_killed_runs_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in (
        ".out.4242.partial.json",
        "slide1/.map.4242.partial.json",
        ".theirs.4242.partial.json",
        ".out.json.partial",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with HeldOutputs(tmp_path, "stage", {}, writes=["out.json"]):
        write_json(tmp_path / "slide1" / "map.json", {})
    left = {path.name for path in tmp_path.rglob(".*") if "partial" in path.name}
    assert left == {".theirs.4242.partial.json", ".out.json.partial"}


def test_hdf5_files_say_themselves_that_they_are_ours_damaged_ones_by_the_journal(tmp_path: Path) -> None:
    def write(name: str, stated: str) -> None:
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["format"] = stated

    with HeldOutputs(tmp_path, "stage", {}):
        for name in ("ours.h5", "cut.h5", "theirs.h5"):
            with atomic_path(tmp_path / name) as partial:
                write(partial.name, "dsnet-patches/1")
    write("theirs.h5", "other")
    os.truncate(tmp_path / "cut.h5", 100)
    HeldOutputs(tmp_path, "stage", {}, writes=["ours.h5", "cut.h5"]).check()
    with pytest.raises(RequestError, match=r"theirs\.h5"):
        HeldOutputs(tmp_path, "stage", {}, writes=["theirs.h5"]).check()


def test_of_nested_folders_the_nearest_keeps_the_record(tmp_path: Path) -> None:
    with HeldOutputs(tmp_path / "log", "first", {}), HeldOutputs(tmp_path, "second", {}):
        write_json(tmp_path / "log" / "out.json", {})
    wrote(tmp_path / "log", stage="first", replace=True)
    assert "out.json" not in (tmp_path / ".second.outputs.jsonl").read_text()


def test_shards_share_the_request(tmp_path: Path) -> None:
    with HeldOutputs(tmp_path, "stage", {"encoder": 1}, shard="1-of-2"):
        HeldOutputs(tmp_path, "stage", {"encoder": 1}, shard="2-of-2").check()
        with pytest.raises(RequestError, match=r"encoder was 1, now 2.*without --shard"):
            HeldOutputs(tmp_path, "stage", {"encoder": 2}, shard="2-of-2", replace=True).check()


@pytest.mark.parametrize(("held", "asked"), [("1-of-2", ""), ("", "1-of-2"), ("1-of-2", "1-of-4")])
def test_shards_of_one_number_alone_write_at_once(
    tmp_path: Path, held: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RIVAL_WAIT_S", 0.0)
    half_written = tmp_path / ".out.1.partial.json"
    with HeldOutputs(tmp_path, "stage", {}, shard=held):
        half_written.touch()
        with (
            pytest.raises(RequestError, match=f"another run of stage{held and '.' + held} is writing here"),
            HeldOutputs(tmp_path, "stage", {}, writes=["out.json"], shard=asked),
        ):
            pass
        assert half_written.exists()
        with HeldOutputs(tmp_path, "stage", {}, shard="2-of-2") if held else nullcontext():
            pass
    with HeldOutputs(tmp_path, "stage", {}, writes=["out.json"], shard=asked):
        assert not half_written.exists()


def test_shards_that_look_for_others_at_the_same_moment_do_not_refuse_each_other(tmp_path: Path) -> None:
    with HeldOutputs(tmp_path, "stage", {}):
        pass
    another_looks = FileLock(tmp_path / ".stage.lock", thread_local=False)
    another_looks.acquire()
    timer = threading.Timer(0.2, another_looks.release)
    timer.start()
    with HeldOutputs(tmp_path, "stage", {}, shard="1-of-2"):
        pass
    timer.join()


def test_a_folder_is_held_against_other_processes_until_the_run_fails_or_ends(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(BUNDLE)!r})\n"
        "from scripts.common.outputs import HeldOutputs\n"
        f"HeldOutputs({str(tmp_path)!r}, 'stage', {{}}).hold_for()"
    )
    told: list[str] = []

    def other() -> None:
        told.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr)

    def fail() -> None:
        raise KeyError

    for last in (fail, bool):
        with suppress(KeyError):
            HeldOutputs(tmp_path, "stage", {}).hold_for(other, last)
        other()
    assert ["another run of stage" in error for error in told] == [True, False] * 2


def test_made_it_looks_at_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("theirs")
    outputs = HeldOutputs(tmp_path, "stage", {}, writes=["out.json"])
    steps: list[int] = []
    for look in (outputs.check, lambda: outputs.hold_for(lambda: steps.append(1))):
        with pytest.raises(RequestError, match=r"out\.json"):
            look()
    assert not steps and [path.name for path in tmp_path.iterdir()] == ["out.json"]


def made_before(folder: Path) -> bool:
    outputs = HeldOutputs(folder, "stage", {})
    outputs.check()
    return outputs.made_before(["out.json"])


def test_a_run_that_ended_is_told_from_one_that_was_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyError), HeldOutputs(tmp_path, "stage", {}):
        write_json(tmp_path / "out.json", {})
        raise KeyError
    assert not made_before(tmp_path)
    with HeldOutputs(tmp_path, "stage", {}):
        pass
    assert made_before(tmp_path)
    (tmp_path / "out.json").write_text("edited")
    assert not made_before(tmp_path)


def test_lines_of_a_record_that_are_none_do_not_count(tmp_path: Path) -> None:
    text = '{"stage": "a", "request": {}}\n3\n[]\n{"file": "b", "sha256": 5}\n{"file": 3}\n'
    text += "".join(
        json.dumps({"file": name, "sha256": ["0"]}) + "\n"
        for name in ("", "/a", "../a", "a/../b", "a\0b", "\ud800", "a" * 256)
    )
    text += '{"file": "c", "sha256": ["0"]}\n'
    (tmp_path / ".a.outputs.jsonl").write_text(text, encoding="utf-8")
    (journal,) = read_journals(tmp_path)
    assert journal.files == {"c": ("0",)}
    (tmp_path / ".a.outputs.jsonl").write_text(text + "[" * 100000, encoding="utf-8")
    (journal,) = read_journals(tmp_path)
    assert journal.files == {"c": ("0",)}


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.symlink_to(path.with_name("nowhere")), Path.touch]
)
def test_what_has_the_name_of_a_record_and_is_none_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / ".training.outputs.jsonl")
    with pytest.raises(RequestError, match=r"\.training\.outputs\.jsonl: not the record of outputs"):
        read_journals(tmp_path)


def test_outputs_need_a_folder() -> None:
    with pytest.raises(
        RequestError, match="no folder for what evaluating writes, expected one: name another --output_dir"
    ):
        HeldOutputs(None, "evaluating", {})
