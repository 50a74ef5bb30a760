from pathlib import Path

import pytest
from studies import main

from scripts.ablations.summary import COLUMNS
from scripts.common.files import write_csv


def write_study(path: Path, *records: tuple[str, float, float, float, str]) -> str:
    """A study of two trainings a row; the figures are the AUC of "full" and the differences of the others."""
    rows = []
    for row, value, low, high, sign in records:
        name = "auc" if row == "full" else "difference"
        rows.append({"row": row, "runs": 2, "sign": sign, name: value, f"{name}_low": low, f"{name}_high": high})
    write_csv(path, COLUMNS, rows)
    return str(path)


def test_studies_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = ("full", 0.8, 0.7, 0.9, "")
    first = write_study(
        tmp_path / "a.csv", ("levels_1", 0.01, -0.02, 0.04, "open"), full, ("mixed", -0.1, -0.2, -0.05, "holds")
    )
    second = write_study(tmp_path / "b.csv", full, ("levels_1", 0.0512, 0.02, 0.08, "opposite"))
    assert main([f"S-CAE={first}", f"NIC={second}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| | S-CAE | NIC | paper |",
        "|---|---|---|---|",
        "| Full DSNet | 0.800 (0.700 to 0.900), 2 | 0.800 (0.700 to 0.900), 2 | 0.760 |",
        "| L = 1 | +0.010 (-0.020 to +0.040), 2 | **+0.051** (+0.020 to +0.080), 2 | -0.024 |",
        "| Mixed | **-0.100** (-0.200 to -0.050), 2 | - | -0.064 |",
        "",
        "- S-CAE: holds: Mixed; open: 1 of 2",
        "- NIC: opposite: L = 1; open: 0 of 1",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.csv"], "a.csv: expected NAME=FILE"),
        (["A=a.csv"], "a.csv: no such file; expected the ablations.csv"),
        (["A=other.csv"], "other.csv: other columns"),
        (["A=study.csv", "A=study.csv"], "every name once"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(Path("study.csv"))
    Path("other.csv").write_text("row,auc\n", encoding="utf-8")
    assert main(words) == 2
    assert message in capsys.readouterr().err
