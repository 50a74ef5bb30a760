"""A campaign of faults over everything that the bundle reads and does, seeded; what became of each case is counted.

    make faults ARGS="--output_dir faults --seed 0"          # a quarter of an hour on two cores
    make faults ARGS="--scale 0.1"                           # a tenth of it
    make faults ARGS="--share slides=500,kills=0"            # other numbers of cases of some kinds

Kinds: damaged slides of every format (benchmarks/campaign_encoding.py); damaged embeddings, patches, weights, cards, records and tables
(benchmarks/campaign_files.py); command lines (benchmarks/campaign_options.py); stages that are killed, told to stop, or cannot write
(benchmarks/campaign_interrupts.py). Whether a result is right is said by the undamaged file and by decoders of other libraries.

    right          the result of the undamaged file, or of the undisturbed run
    clear          refused, or failed alone, with a reason
    unnoticeable   another result, and nothing in the file says that it is not what was written
    wrong          another result, although something in the file says so; files written by a request that was refused; no reason given
    hang           no end
    lost           what should be done is not: a whole slide beside a damaged one, a run that cannot be gone on with
    traceback      printed
    crash          an exit code that is none of ours, or a signal

The last five are faults: exit code 1. The output folder gets ``campaign-<seed>.json`` and ``.md`` with the counts, the files of each
fault, and ``found-<seed>.*.jsonl`` with each case: the same command goes on where it was stopped. A case depends on the seed, its kind
and its number alone.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

import campaign_encoding
import campaign_files
import campaign_interrupts
import campaign_options
from campaign_cases import FAULTS, OUTCOMES, Found
from campaign_world import World, make_world
from forked import get_ready
from machine import commit, machine

SHARES = {
    "slides": 2000, "embeddings": 80, "patches": 20, "weights": 70, "cards": 50, "records": 130, "tables": 120, "options": 240, "kills": 60,
    "signals": 60, "disk": 60,
}  # fmt: skip
"""Cases of each kind."""

MODULES = {
    **dict.fromkeys(campaign_files.KINDS, campaign_files),
    **dict.fromkeys(campaign_interrupts.KINDS, campaign_interrupts),
    "options": campaign_options,
}


def main() -> None:
    """Run the campaign, write and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("faults"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases")
    parser.add_argument("--kinds", default="", help="some kinds alone, such as kills,disk")
    parser.add_argument(
        "--share", default="", help="cases of some kinds, such as slides=500,kills=0; the scale does not change them"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--data", type=Path, help="folder of real slides, whose regions are damaged instead of generated tissue"
    )
    parser.add_argument("--keep", action="store_true", help="keep the files of every case, not only of faults")
    arguments = parser.parse_args()
    shares = {kind: round(count * arguments.scale) for kind, count in SHARES.items()} | _shares(parser, arguments.share)
    only = set(filter(None, arguments.kinds.split(",")))
    if only - set(SHARES):
        parser.error(f"--kinds {arguments.kinds}: expected some of {', '.join(SHARES)}")
    shares = {kind: count for kind, count in shares.items() if not only or kind in only}
    output = arguments.output_dir.absolute()
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    get_ready()
    world = make_world(output)
    asked = {kind for kind, count in shares.items() if count}
    if not asked.isdisjoint(campaign_files.KINDS):
        campaign_files.prepare(world)
    if not asked.isdisjoint(campaign_interrupts.KINDS):
        campaign_interrupts.prepare(world)
    if "slides" in asked:
        campaign_encoding.prepare(world, arguments.data)
    units = _units(shares, arguments.seed)
    left = [unit for unit in units if unit[0] not in _done(output, arguments.seed)]
    workers = [
        _fork(world, output, arguments, left[number :: arguments.jobs], number) for number in range(arguments.jobs)
    ]
    failed = [code for code in (os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers) if code]
    if failed:
        sys.exit(f"the campaign itself failed in {len(failed)} of {arguments.jobs} processes")
    names = {unit[0] for unit in units}
    found = [one for unit, cases in _done(output, arguments.seed).items() if unit in names for one in cases]
    counts = write_report(output, arguments.seed, found, time.monotonic() - start, jobs=arguments.jobs)
    sys.exit(any(counts[name] for name in FAULTS))


def write_report(output: Path, seed: int, found: Sequence[Found], seconds: float, *, jobs: int) -> Mapping[str, int]:
    """Write and print the counts, as JSON and as a table with the faults below; return those over all kinds.

    Args:
        output: where to.
        seed: of the cases.
        found: what became of each.
        seconds: that the last run took, in which not all of them need have been done.
        jobs: processes.
    """
    by_kind = {kind: Counter(one.outcome for one in found if one.kind == kind) for kind in SHARES}
    counts = Counter(one.outcome for one in found)
    content: dict[str, Any] = {
        "seed": seed,
        "cases": len(found),
        "minutes": round(seconds / 60, 1),
        "commit": commit(),
        "machine": machine(jobs),
        "counts": {name: counts[name] for name in OUTCOMES},
        "kinds": {kind: {name: of[name] for name in OUTCOMES} for kind, of in by_kind.items() if of},
    }
    (output / f"campaign-{seed}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    of_machine = content["machine"]
    lines = [
        f"Seed {seed}, commit {content['commit']}; {of_machine['processor']}, {jobs} processes, {of_machine['system']}, Python "
        f"{of_machine['python']}, {', '.join(f'{name} {of}' for name, of in of_machine['versions'].items())}",
        "",
    ]
    lines += [f"| kind | cases | {' | '.join(OUTCOMES)} |", "|---" * (2 + len(OUTCOMES)) + "|"]
    for kind, of in {**{kind: of for kind, of in by_kind.items() if of}, "all": counts}.items():
        lines.append(f"| {kind} | {of.total()} | {' | '.join(str(of[name]) for name in OUTCOMES)} |")
    lines += [
        "",
        *(
            f"- {one.outcome}: {one.case}: {one.what}: {one.said}".replace("\n", " ")
            for one in found
            if one.outcome in FAULTS
        ),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    (output / f"campaign-{seed}.md").write_text(text, encoding="utf-8")
    print(text)
    return counts


def _shares(parser: argparse.ArgumentParser, text: str) -> dict[str, int]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if any(kind not in SHARES or not count.isdecimal() for kind, _, count in pairs):
        parser.error(f"--share {text}: expected kind=number,... of {', '.join(SHARES)}")
    return {kind: int(count) for kind, _, count in pairs}


def _units(shares: Mapping[str, int], seed: int) -> list[tuple[str, str, int]]:
    """Name, kind and size of each unit of work, mixed, so that each process gets of every kind."""
    units = []
    for kind, count in shares.items():
        size = campaign_encoding.PER_UNIT if kind == "slides" else 1
        units += [(f"{kind}-{number}", kind, min(size, count - number * size)) for number in range(-(-count // size))]
    Random(seed).shuffle(units)
    return units


def _done(output: Path, seed: int) -> dict[str, list[Found]]:
    """The units that were judged, with their cases; a line that was cut short does not count."""
    done: dict[str, list[Found]] = {}
    for path in sorted(output.glob(f"found-{seed}.*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.endswith("}"):
                content = json.loads(line)
                done[content["unit"]] = [Found(**one) for one in content["found"]]
    return done


def _fork(
    world: World, output: Path, arguments: argparse.Namespace, units: Sequence[tuple[str, str, int]], number: int
) -> int:
    """Work on units in a process of its own; return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(output / f"found-{arguments.seed}.{number}.jsonl", "a", encoding="utf-8") as file:
            for name, kind, size in units:
                found = _worked(world, output / "cases" / f"{arguments.seed}-{name}", name, kind, size, arguments)
                file.write(json.dumps({"unit": name, "found": [asdict(one) for one in found]}) + "\n")
                file.flush()
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        sys.stdout.flush()
        os._exit(code)


def _worked(world: World, folder: Path, name: str, kind: str, size: int, arguments: argparse.Namespace) -> list[Found]:
    """Do one unit; its files are removed unless something is wrong."""
    rng = Random(f"{arguments.seed} {name} {size}")
    shutil.rmtree(folder, ignore_errors=True)
    slides = kind == "slides"
    found = (
        campaign_encoding.unit(world, kind, folder, rng, size)
        if slides
        else MODULES[kind].case(world, kind, folder, rng)
    )
    faults = [one for one in found if one.outcome in FAULTS]
    for one in faults:
        print(f"{one.outcome}: {one.case}: {one.what}: {one.said[-400:]}", flush=True)
    if not faults and not arguments.keep:
        shutil.rmtree(folder)
    return found


if __name__ == "__main__":
    main()
