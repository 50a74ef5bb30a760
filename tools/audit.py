"""What could be wrong with the repository's safety: secrets in its files, floors below known holes, pins with known holes.

    make audit

The first two need nothing. The third asks pip-audit, which needs an environment of its own (``.venv-audit``) and a network; where either is
missing that is said, and does not fail.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

REPO = Path(__file__).resolve().parents[1]

FLOORS = {
    "torch": (
        "2.10",
        "CVE-2026-24747: a file of weights writes over memory, in spite of weights_only (and CVE-2025-32434 before 2.6)",
    ),
    "pillow": (
        "12.3",
        "CVE-2026-54058 and, before 12.2, CVE-2026-40192, -42311: files that write over memory or fill it",
    ),
    "pydicom": ("3.0.2", "CVE-2026-32711: a DICOMDIR leads out of its folder"),
    "monai": ("1.6", "CVE-2025-58755 to -58757: archives and weights that write files and run code"),
    "requests": ("2.32.4", "CVE-2024-47081: credentials sent to another host"),
    "jinja2": ("3.1.6", "CVE-2025-27516: templates leave their sandbox"),
    "scikit-learn": ("1.5", "CVE-2024-5206: words of the training data are kept"),
    "tqdm": ("4.66.3", "CVE-2024-34062: arguments are run as code"),
    "imagecodecs": ("2023.9.18", "CVE-2023-4863: the libwebp in it"),
}
"""The lowest version of a requirement that has none of the holes known to us, and what they are."""

SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{30,}",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a Google key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Hugging Face token": r"\bhf_[A-Za-z]{30,}",
    "a PyPI token": r"\bpypi-[A-Za-z0-9_-]{50,}",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.",
    "a password": r"""(?i)\b(?:password|passwd|secret|api_?key|access_?token)\b["']?\s*[:=]\s*["'][^"'\s$<{]{8,}["']""",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'$<{]+:[^\s/:@\"'$<{]{3,}@",
}


def main() -> None:
    """Print what was found; exit code 1 if there is anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pip_audit", type=Path, help="the program; without it the pins are not looked up")
    arguments = parser.parse_args()
    found = [*secrets(tracked()), *low_floors(), *low_pins()]
    print(f"secrets and floors: {len(found)} faults in {len(tracked())} files and {len(FLOORS)} requirements")
    found += looked_up(arguments.pip_audit)
    print("\n".join(found) or "nothing found")
    sys.exit(bool(found))


def tracked() -> list[Path]:
    """The files of the repository that git knows."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True)
    return [REPO / name for name in listing.stdout.decode().split("\0") if name and (REPO / name).is_file()]


def secrets(paths: Sequence[Path]) -> Iterator[str]:
    """Yield where a file holds what looks like a secret."""
    patterns = {what: re.compile(pattern) for what, pattern in SECRETS.items()}
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            yield from (
                f"{path.relative_to(REPO)}:{number}: looks like {what}"
                for what, pattern in patterns.items()
                if pattern.search(line)
            )


def low_floors() -> Iterator[str]:
    """Yield the requirements of pyproject.toml that admit a version below a floor."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(line)
        floor, hole = FLOORS.get(requirement.name.lower(), (None, ""))
        lowest = [Version(one.version) for one in requirement.specifier if one.operator in (">=", "==", "~=", ">")]
        if floor and (not lowest or max(lowest) < Version(floor)):
            yield f"pyproject.toml: {line}, expected {requirement.name}>={floor} ({hole})"


def low_pins() -> Iterator[str]:
    """Yield the pins of constraints.txt that lie below a floor."""
    for line in (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        floor, hole = FLOORS.get(name.lower(), (None, ""))
        if floor and Version(version) < Version(floor):
            yield f"constraints.txt: {line}, expected at least {floor} ({hole})"


def looked_up(program: Path | None) -> list[str]:
    """What pip-audit knows of the pins; nothing, with a word, where it cannot be asked."""
    if program is None or not program.is_file():
        print("pip-audit: not installed, the pins were not looked up")
        return []
    words = [
        str(program),
        "--requirement",
        str(REPO / "constraints.txt"),
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        content = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"pip-audit: its source cannot be reached, the pins were not looked up ({last[:200]})")
        return []
    holes = [(one, hole) for one in content["dependencies"] for hole in one.get("vulns", ())]
    print(f"pip-audit: {len(content['dependencies'])} pins looked up, {len(holes)} known holes")
    return [
        f"{one['name']} {one['version']}: {hole['id']}, repaired in {', '.join(hole['fix_versions']) or 'none'}"
        for one, hole in holes
    ]


if __name__ == "__main__":
    main()
