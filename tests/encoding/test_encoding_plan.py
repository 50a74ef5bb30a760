import csv
from pathlib import Path

import pytest
from tiny_flow import ON_CPU, TinyFlow, read_rows, run_command, run_config

pytest_plugins = ["tiny_flow_fixture"]


def planned(text: str) -> dict[str, str]:
    pairs = (line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return {key: value for key, value in pairs if key in ("slides", "patches", "encoder", "time", "disk", "would fail")}


def test_the_plan_is_what_encoding_then_does(
    flow: TinyFlow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_rows(flow.slides)
    table = tmp_path / "slides.csv"
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no slide")
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide"])
        writer.writerows([[str(flow.slides.parent / row["slide"])] for row in rows[:3]] + [[str(broken)]])
    options = {
        "slides": table,
        "output_dir": tmp_path / "out",
        "encoder": flow.encoder,
        "job#engine": "torch",
        **ON_CPU,
    }
    run_config("encode.yaml", run_id="encoding", dry_run=True, **options)
    assert not (tmp_path / "out").exists()
    plan = planned(capsys.readouterr().out)
    assert plan["slides"] == "3 of 4 to encode, 0 done before, 0 without tissue, 1 that would fail"
    assert plan["would fail"].startswith(str(broken))
    assert plan["encoder"] == "torch float32 on cpu"

    with pytest.raises(RuntimeError, match="require_complete"):
        run_config("encode.yaml", run_id="encoding", **options)
    done = [row for row in read_rows(tmp_path / "out" / "manifest.csv") if row["status"] == "done"]
    patches = sum(int(row["patches"]) for row in done)
    expected = f"{patches:,}"
    if "at most" in plan["patches"]:  # slides without a pyramid
        assert int(plan["patches"].split(",")[0].split()[0].replace(",", "")) >= patches
    else:
        assert plan["patches"] == expected
    capsys.readouterr()
    run_config("encode.yaml", run_id="encoding", dry_run=True, **options)
    again = planned(capsys.readouterr().out)
    assert again["slides"] == "0 of 4 to encode, 3 done before, 0 without tissue, 1 that would fail"
    assert again["patches"] == "0"
    assert "time" not in again


def test_a_dry_run_leaves_with_code_0_and_writes_nothing(flow: TinyFlow, tmp_path: Path) -> None:
    options = {"slides": flow.slides, "output_dir": tmp_path / "out", **flow.trained, "device": "cpu", "dry_run": True}
    result = run_command("inference", "inference.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 0, result.stderr
    plan = planned(result.stdout)
    assert {"slides", "patches", "encoder", "disk"} <= set(plan)
    assert not list(tmp_path.iterdir())
