import csv
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from docs_blocks import REPO
from studies import main, read_study

from scripts.ablations.summary import COLUMNS
from scripts.common.files import write_csv


def write_study(path: Path, *records: tuple[str, float, float, float, float, str], runs: int = 5) -> str:
    """A study; the figures are the AUC of "full" and the differences of the others, their interval and their deviation over trainings."""
    rows = []
    for row, value, low, high, deviation, sign in records:
        name, spread = ("auc", "sd_over_seeds") if row == "full" else ("difference", "sd_of_difference")
        figures = {name: value, f"{name}_low": low, f"{name}_high": high, spread: deviation if runs > 1 else None}
        rows.append({"row": row, "runs": runs, "sign": sign, **figures})
    write_csv(path, COLUMNS, rows)
    return str(path)


def test_studies_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = ("full", 0.8, 0.7, 0.9, 0.03, "")
    first = write_study(
        tmp_path / "a.csv",
        ("levels_1", 0.01, -0.02, 0.04, 0.001, "open"),
        full,
        ("mixed", -0.1, -0.2, -0.05, 0.08, "holds"),
    )
    second = write_study(tmp_path / "b.csv", full, ("levels_1", 0.0512, 0.02, 0.08, 0.04, "opposite"))
    assert main([f"S-CAE={first}", f"NIC={second}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| | S-CAE | NIC | paper |",
        "|---|---|---|---|",
        "| Full DSNet | 0.800 (0.700 to 0.900), 0.030 | 0.800 (0.700 to 0.900), 0.030 | 0.760 |",
        "| L = 1 | +0.010 (-0.020 to +0.040), 0.001 | **+0.051** (+0.020 to +0.080), 0.040 | -0.024 |",
        "| Mixed | **-0.100** (-0.200 to -0.050), 0.080 | - | -0.064 |",
        "",
        "- S-CAE: holds: Mixed; open: 1 of 2",
        "- NIC: opposite: L = 1; open: 0 of 1",
    ]


@pytest.mark.parametrize(("deviation", "runs"), [(0.0806, 5), (0.02, 2), (0.0, 1)])
def test_a_difference_within_the_luck_of_trainings_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], deviation: float, runs: int
) -> None:
    """-0.1 over 5 trainings is clear of a deviation up to 0.1 sqrt(5) / 2.776 = 0.0805, over 2 up to 0.0111, over one of none."""
    study = write_study(tmp_path / "a.csv", ("mixed", -0.1, -0.2, -0.05, deviation, "holds"), runs=runs)
    assert main([f"S-CAE={study}"]) == 0
    out = capsys.readouterr().out
    assert "| Mixed | -0.100 (-0.200 to -0.050)" in out and "- S-CAE: open: 1 of 1" in out


def test_datasets_of_one_seed_each_have_no_luck_of_trainings_to_be_clear_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"difference": -0.1, "difference_low": -0.2, "difference_high": -0.05}
    write_csv(tmp_path / "a.csv", COLUMNS, [{"row": "mixed", "runs": 5, "sign": "holds", **figures}])
    assert main([f"S-CAE={tmp_path / 'a.csv'}"]) == 0
    assert "open: 1 of 1" in capsys.readouterr().out


def test_the_page_of_the_parts_shows_the_studies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REPO / "docs" / "parts.md").read_text(encoding="utf-8")
    commands = re.findall(r"    python benchmarks/studies\.py ((?:.*\\\n)*.*)", page)
    assert len(commands) == 3
    monkeypatch.chdir(REPO)
    for command in commands:
        assert main(shlex.split(command.replace("\\\n", " "))) == 0
        assert capsys.readouterr().out.partition("\n\n")[0] in page


def record_of(name: str, method: str = "recommended") -> Mapping[str, str]:
    """The one row of a study, or that of a method of a comparison."""
    path = REPO / "docs" / "studies" / name
    if not name.startswith("methods"):
        return read_study(path)["full"]
    with open(path, newline="", encoding="utf-8") as file:
        return next(row for row in csv.DictReader(file) if row["method"] == method)


METHODS = ("dsnet", "recommended", "attention_pooling")
"""Of the columns."""


@pytest.mark.parametrize(
    ("v_from", "lesion", "seed", "studies"),
    [
        ("NIC multitask", "large", 0, ("nic", "methods_nic", "attention_nic")),
        ("NIC multitask", "small", 0, ("nic", "recommended_two_nic", "attention_nic")),
        ("NIC multitask", "small", 1, ("nic", "recommended_two_nic", "attention_nic")),
        ("S-CAE, `extended`", "large", 0, (None, "methods_extended", "methods_extended")),
        ("S-CAE, `extended`", "small", 0, (None, "recommended_two_extended", "attention_extended")),
        ("S-CAE, `extended`", "small", 1, (None, "recommended_two_extended", "attention_extended")),
        ("S-CAE, `paper`", "small", 0, (None, "recommended_scae", "attention_scae")),
    ],
)
def test_the_recipes_are_those_of_the_studies(
    v_from: str, lesion: str, seed: int, studies: tuple[str | None, ...]
) -> None:
    """The table that the page of results begins with, figure by figure; None: another S-CAE, or not run, so without a table here."""
    size = {"small": "2 to 15 %", "large": "10 to 30 %"}[lesion]
    page = (REPO / "docs" / "results.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {re.escape(v_from)} \| {size} \| {seed} \|(.*)\|$", page.partition("\n## Does")[0], re.M)
    for cell, name, method in zip(row.split(" | "), studies, METHODS, strict=True):
        if name is not None:
            record = record_of(f"{name}_{lesion}_seed{seed}.csv", method)
            auc, low, high, deviation = (
                f"{float(record[key]):.3f}" for key in ("auc", "auc_low", "auc_high", "sd_over_seeds")
            )
            figures = f"{auc} ({low}-{high}), {deviation}"
            before = name.replace("_two", "").replace("methods", "recommended")
            if before != name and method == "recommended":
                eight = record_of(f"{before}_{lesion}_seed{seed}.csv")
                figures += f" ({float(eight['auc']):.3f}°)"
            elif "recommended" in name:
                figures += "°"  # eight slides per step
            assert cell.strip() == figures
            assert record["runs"] == "5"
