"""The campaign of faults beside its slides: damage is seeded and seen by a strict reading, and outcomes are told apart."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import campaign
import campaign_damage
import campaign_notices
import campaign_options
import campaign_tables
import h5py
import numpy as np
import pytest
import torch
from campaign_cases import Found, differing, how_it_ended
from campaign_commands import Disturbance, Ended, run, stage
from campaign_damage import BYTES, Damage
from campaign_vendors import VENDORS, complaint_of_parts, copy_slide, damage_part, parts_of, write_vendor_slides
from tiff_bytes import COUNTS, OFFSETS, Tiff

from scripts.slides.opening import open_slide


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = np.arange(40, dtype=np.float32).reshape(10, 4)
        file["coords"] = np.arange(20).reshape(10, 2)
        file["coords"].attrs["patch_size_level0"] = 128
        file["slide_id"] = ["a"] * 10


def write_json(path: Path) -> None:
    path.write_text(json.dumps({"a": 1, "b": [1.5, 2.5], "c": {"d": "x", "e": None}}))


def write_weights(path: Path) -> None:
    torch.save({"w": torch.ones(3, 2), "b": torch.zeros(2)}, path)


def write_table(path: Path) -> None:
    path.write_text("slide,label\na.tif,0\nb.tif,1\n")


def write_lines(path: Path) -> None:
    path.write_text('{"stage": "a", "request": {}}\n{"file": "b", "sha256": []}\n')


KINDS: list[tuple[Callable[[Path], None], Damage, Callable[[Path, Path], bool] | None]] = [
    (write_hdf5, campaign_damage.hdf5_part, campaign_notices.hdf5_notices),
    (write_json, campaign_damage.json_part, campaign_notices.json_notices),
    (write_json, campaign_damage.json_text, campaign_notices.json_notices),
    (write_weights, campaign_damage.weights_part, campaign_notices.weights_notice),
    (write_table, campaign_tables.table_part, campaign_notices.table_notices),
    (write_lines, campaign_damage.lines_part, None),
]


@pytest.mark.parametrize(("write", "damage", "notices"), KINDS, ids=lambda part: getattr(part, "__name__", ""))
def test_damage_is_seeded_and_a_whole_file_is_not_complained_of(
    write: Callable[[Path], None], damage: Damage, notices: Callable[[Path, Path], bool] | None, tmp_path: Path
) -> None:
    write(tmp_path / "whole")
    said = []
    for seed in (*range(40), *range(40)):
        path = tmp_path / "damaged"
        shutil.copy(tmp_path / "whole", path)
        if notices is not None:
            assert not notices(tmp_path / "whole", path)
        said.append(damage(path, Random(seed)))
    assert said[:40] == said[40:] and len(set(said)) > 3
    if notices is not None:
        path.write_bytes(path.read_bytes()[:20])
        assert notices(tmp_path / "whole", path)


def test_labels_of_predictions_may_be_any_text(tmp_path: Path) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    whole.write_text("slide_id,label,p_0\na,1,0.5\n")
    for text, noticed in (("a,x,0.5", False), ("a,x\0,0.5", True), ("a,1,x", True), ("a,1", True)):
        other.write_text(f"slide_id,label,p_0\n{text}\n")
        assert campaign_notices.predictions_notice(whole, other) == noticed


@pytest.mark.parametrize("damage", dict.fromkeys(BYTES), ids=lambda damage: damage.__name__)
def test_damaged_bytes(damage: Damage, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20
    found = []
    for seed in (1, 1, 2):
        path = tmp_path / f"{len(found)}"
        path.write_bytes(content)
        assert damage(path, Random(seed))
        found.append(path.read_bytes() if path.is_file() else b"")
    assert found[0] == found[1] and content not in found


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    noise = np.random.default_rng(0).integers(120, 240, (128, 128, 3), dtype=np.uint8)
    return write_vendor_slides(tmp_path_factory.mktemp("vendors"), noise.repeat(8, axis=0).repeat(8, axis=1))


def test_an_image_of_the_glass_explains_nothing(vendors: list[Path], tmp_path: Path) -> None:
    source = next(path for path in vendors if path.suffix == ".scn")
    damaged = copy_slide(source, tmp_path, "damaged")
    tiff = Tiff(damaged.read_bytes())
    for directory, told in ((0, False), (1, True)):
        content = bytearray(tiff.content)
        (at, *_), (count, *_) = (
            tiff.values(next(entry for entry in tiff.directories[directory].entries if entry.tag == tag))
            for tag in (OFFSETS, COUNTS)
        )
        content[at + count // 2 : at + count - 2] = bytes(count - 2 - count // 2)
        damaged.write_bytes(content)
        assert (complaint_of_parts(source, damaged) is not None) == told


@pytest.mark.parametrize("number", range(len(VENDORS)), ids=list(VENDORS))
def test_slides_of_scanners(number: int, vendors: list[Path], tmp_path: Path) -> None:
    """Whole ones are read and not complained of, their copies neither; damage has a seed; a missing part is noticed."""
    source = vendors[number]
    copied = copy_slide(source, tmp_path, "copy")
    assert complaint_of_parts(source, copied) is None
    with open_slide(copied) as reader:
        assert reader.mpp_xy is not None
    again = copy_slide(source, tmp_path, "again")
    said = [damage_part(one, Random(3)).replace("again", "copy") for one in (copied, again)]
    assert said[0] == said[1]
    part = parts_of(source)[-1]
    broken = copy_slide(source, tmp_path, "broken")
    parts_of(broken)[-1].write_bytes(part.read_bytes()[: part.stat().st_size // 3])
    assert complaint_of_parts(source, broken)


@pytest.mark.parametrize(
    ("code", "said", "written", "outcome"),
    [
        (0, "", set(), None),
        (1, "error: a.tif: cut", set(), None),
        (1, "nothing", set(), "wrong"),
        (2, "error: --seed abc: expected a number", set(), "clear"),
        (2, "error: --seed abc: expected a number", {"out/a.csv"}, "wrong"),
        (1, "Traceback (most recent call last):\nerror: x", set(), "traceback"),
        (-11, "", set(), "crash"),
        (None, "", set(), "hang"),
    ],
)
def test_how_a_command_ended(code: int | None, said: str, written: set[str], outcome: str | None) -> None:
    found = how_it_ended(Ended(code, said, 1.0, 0), set(), written)
    assert (found and found[0]) == outcome


def test_what_differs_between_two_runs(tmp_path: Path) -> None:
    for name, text in (("reference/x", "1"), ("cases/y", "2")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "same.json").write_text(f'{{"a": 1, "at": "{folder}/out"}}')
        (folder / "other.json").write_text(text)
        (folder / "last.pt").write_text(text)
        (folder / ".hidden").write_text(text)
    (tmp_path / "cases/y/more.png").touch()
    assert differing(tmp_path / "reference/x", tmp_path / "cases/y") == ["more.png is there", "other.json differs"]


def test_a_split_that_is_written_anew_elsewhere(tmp_path: Path) -> None:
    """Its slides are named from where it lies."""
    for name, slide, share in (
        ("world", "../a.tif", 0.5),
        ("cases/y", "../../world/a.tif", 0.5),
        ("cases/z", "../b.tif", 0.4),
    ):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "split.csv").write_text(f"slide,split\n{slide},test\n")
        (folder / "split.json").write_text(json.dumps({"files": {"split.csv": slide}, "share": share}))
    assert differing(tmp_path / "world", tmp_path / "cases/y") == []
    assert differing(tmp_path / "world", tmp_path / "cases/z") == ["split.csv differs", "split.json differs"]


def test_units_depend_on_the_seed_and_are_done_once(tmp_path: Path) -> None:
    units = campaign._units({"slides": 60, "cards": 2}, 5)
    assert sorted(units) == [
        ("cards-0", "cards", 1),
        ("cards-1", "cards", 1),
        ("slides-0", "slides", 25),
        ("slides-1", "slides", 25),
        ("slides-2", "slides", 10),
    ]
    assert units == campaign._units({"slides": 60, "cards": 2}, 5)
    line = json.dumps(
        {
            "unit": "cards-0",
            "found": [{"kind": "cards", "case": "5-cards-0", "what": "x", "outcome": "clear", "said": ""}],
        }
    )
    (tmp_path / "found-5.0.jsonl").write_text(f"{line}\n{line[:40]}")
    assert campaign._done(tmp_path, 5) == {"cards-0": [Found("cards", "5-cards-0", "x", "clear", "")]}


def test_counts_are_written_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        Found("cards", "a", "x", "clear"),
        Found("cards", "b", "y", "wrong", "said\nmore"),
        Found("disk", "c", "z", "right"),
    ]
    counts = campaign.write_report(tmp_path, 3, found, 90, jobs=2)
    assert counts["wrong"] == 1 and counts["right"] == 1
    content = json.loads((tmp_path / "campaign-3.json").read_text())
    assert content["cases"] == 3 and content["minutes"] == 1.5 and content["kinds"]["cards"]["clear"] == 1
    text = (tmp_path / "campaign-3.md").read_text()
    assert content["machine"]["versions"]["torch"] in text and content["commit"] in text and "2 processes" in text
    assert (
        "| cards | 2 | 0 | 1 | 0 | 1 |" in text
        and "- wrong: b: y: said more" in text
        and text.strip() in capsys.readouterr().out
    )


def test_a_command_is_run_disturbed_or_not(tmp_path: Path) -> None:
    """A command that is refused, and one that is killed before."""
    words = stage("splitting", "split.yaml", slides="nowhere.csv", output_dir="out")
    ended = run(words, tmp_path)
    assert ended.code == 2 and ended.error.startswith("error: nowhere.csv: no such file")
    assert run(words, tmp_path, disturbance=Disturbance(signal=9)).code == -9
    assert [path.name for path in tmp_path.iterdir()] == [".campaign.log"]


def test_command_lines_have_ids_inside_components() -> None:
    """As ``--help`` prints them; a misspelt one stays in its component, where MONAI takes anything."""
    options = campaign_options.options_of(("train.yaml", "evaluate.yaml"))
    assert options["optimizer#weight_decay"] == 1e-5 and options["seed"] == 0 and options["validate#split"] == "test"
    assert "evaluated#share" not in options, "evaluating takes the network itself"
    for seed in range(20):
        words: list[str] = []
        _, fatal = campaign_options._misspelt(words, {"optimizer#weight_decay": 1e-5}, Random(seed))
        assert fatal == words[:1] and words[0].startswith(("--optimizer#", "--lr"))
