"""What `make audit` looks for is not there, and would be found."""

import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tools"))
import audit  # noqa: E402


def test_floors_and_pins_lie_above_known_holes() -> None:
    assert [*audit.low_floors(), *audit.low_pins()] == []


def test_no_tracked_file_holds_a_secret() -> None:
    assert list(audit.secrets(audit.tracked())) == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "a private key"),
        ("key: AKIA" + "Q" * 16, "an AWS key"),
        ("token=ghp_" + "a1" * 18, "a GitHub token"),
        ("PASSWORD = 'hunter2" + "hunter2'", "a password"),
        ("https://user:" + "pa55@example.org/x", "a password in an address"),
    ],
)
def test_a_secret_is_found_with_its_place(
    line: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "REPO", tmp_path)
    (tmp_path / "a.yaml").write_text(f"x: 1\n{line}\n", encoding="utf-8")
    assert list(audit.secrets([tmp_path / "a.yaml"])) == [f"a.yaml:2: looks like {what}"]


def test_a_floor_and_a_pin_below_a_hole_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "REPO", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["torch>=2.4", "numpy>=1"]\n[project.optional-dependencies]\nextra = ["pillow"]\n'
    )
    (tmp_path / "constraints.txt").write_text("# pins\ntorch==2.13.0\npydicom==3.0.1\n")
    assert [line.split(" (")[0] for line in audit.low_floors()] == [
        "pyproject.toml: torch>=2.4, expected torch>=2.10",
        "pyproject.toml: pillow, expected pillow>=12.3",
    ]
    assert [line.split(" (")[0] for line in audit.low_pins()] == [
        "constraints.txt: pydicom==3.0.1, expected at least 3.0.2"
    ]


@pytest.mark.parametrize(
    ("answer", "found", "said"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]}',
         ["a 1: X-1, repaired in 2"], "1 known holes"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', [], "1 pins looked up, 0 known holes"),
        ("", [], "cannot be reached"),
    ],
)  # fmt: skip
def test_what_pip_audit_says(
    answer: str, found: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{answer}'\necho no connection >&2\n")
    program.chmod(0o755)
    assert audit.looked_up(program) == found
    assert said in capsys.readouterr().out


def test_without_pip_audit_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.looked_up(None) == []
    assert "not installed" in capsys.readouterr().out
