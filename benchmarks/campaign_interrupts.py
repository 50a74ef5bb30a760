"""Commands that are killed, told to stop, or cannot write, at a random moment; run again they must end as if nothing had been."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from campaign_cases import Found, differing, how_it_ended, names_in, same_content
from campaign_commands import TRACE, Disturbance, Ended, run, stage
from campaign_world import CPU, World

OUT = "out"
KINDS = ("kills", "signals", "disk")
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass(frozen=True)
class Work:
    """A command that takes a while; ``again`` are the words with which it goes on."""

    name: str
    words: Callable[[World, Path], Sequence[str]]
    again: tuple[str, ...] = ()


def _encode(world: World, case: Path) -> list[str]:
    return stage("encoding", "encode.yaml", slides=world.table, encoder=world.encoder, output_dir=case / OUT, **CPU)


def _sample(world: World, case: Path) -> list[str]:
    return stage(
        "sampling",
        "sample.yaml",
        slides=world.table,
        output_dir=case / OUT,
        **{"draw#patches_per_slide": 8, "draw#rich_share": 0},
        num_workers=0,
    )


def _train(world: World, case: Path) -> list[str]:
    return stage(
        "training",
        "train.yaml",
        dataset_dir=world.folder / "data",
        output_dir=case / OUT,
        max_epochs=4,
        batch_size=4,
        graph=False,
        **CPU,
    )


def _train_encoder(world: World, case: Path) -> list[str]:
    return stage(
        "training", "train_scae.yaml", dataset_dir=world.folder / "patches", output_dir=case / OUT, max_epochs=3, **CPU
    )


def _infer(world: World, case: Path) -> list[str]:
    return stage(
        "inference",
        "inference.yaml",
        slides=world.table,
        output_dir=case / OUT,
        model=world.model,
        encoder=world.encoder,
        **CPU,
    )


def _evaluate(world: World, case: Path) -> list[str]:
    return stage(
        "evaluating",
        "train.yaml",
        "evaluate.yaml",
        dataset_dir=world.folder / "data",
        model=world.model,
        output_dir=case / OUT,
        **CPU,
    )


def _report(world: World, case: Path) -> list[str]:
    return stage(
        "reporting",
        "report.yaml",
        predictions_dir=world.folder / "predictions",
        evaluation_dir=world.folder / "evaluation",
        output_dir=case / OUT,
    )


WORKS = (
    Work("encoding", _encode),
    Work("sampling", _sample),
    Work("training", _train, ("--resume", "true")),
    Work("training_scae", _train_encoder, ("--resume", "true")),
    Work("inference", _infer),
    Work("evaluating", _evaluate),
    Work("reporting", _report),
)


def prepare(world: World) -> None:
    """Run each work undisturbed, and note how long it takes and how large its largest file is.

    Raises:
        RuntimeError: one fails.
    """
    for work in WORKS:
        folder = world.reference / f"interrupted-{work.name}"
        if (folder / "seconds").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        ended = run(work.words(world, folder), folder)
        ended.sweep()
        if ended.code != 0:
            raise RuntimeError(f"{work.name}: ended with {ended.code}\n{ended.said[-3000:]}")
        (folder / "seconds").write_text(f"{ended.seconds}", encoding="utf-8")


def case(world: World, kind: str, folder: Path, rng: Random) -> list[Found]:
    """One case: a work disturbed, then done again and compared with the undisturbed one."""
    work = rng.choice(WORKS)
    reference = world.reference / f"interrupted-{work.name}"
    folder.mkdir(parents=True)
    happens = _disturbance(kind, reference, rng)
    first = run(work.words(world, folder), folder, disturbance=happens)
    what = f"{work.name}: {happens}, ended with {first.code} after {first.seconds:.1f} s"
    outcome, said = _judge_first(first, happens, reference / OUT, folder / OUT)
    if outcome == "clear":
        second = run([*work.words(world, folder), *work.again], folder)
        second.sweep()
        outcome, said = _judge_second(second, reference / OUT, folder / OUT)
    first.sweep()  # what a killed command leaves behind may be at work while it is run again
    return [Found(kind, folder.name, what, outcome, said)]


def _disturbance(kind: str, reference: Path, rng: Random) -> Disturbance:
    seconds = float((reference / "seconds").read_text(encoding="utf-8"))
    if kind == "disk":
        largest = max(path.stat().st_size for path in (reference / OUT).rglob("*") if path.is_file())
        return Disturbance(file_bytes=int(largest * rng.choice((rng.random() ** 3, rng.random()))))
    number = signal.SIGKILL if kind == "kills" else rng.choice((signal.SIGTERM, signal.SIGINT))
    return Disturbance(number, rng.uniform(0, seconds))


def _judge_first(ended: Ended, happens: Disturbance, reference: Path, output: Path) -> tuple[str, str]:
    """Judge the disturbed run: "clear" where it ended as it should, so that it can be run again."""
    if ended.code is None:
        return "hang", ended.said[-300:]
    if TRACE in ended.said:
        return "traceback", ended.said[-900:]
    for name in names_in(output):
        if name.endswith(".h5") and (reference / name).is_file() and not same_content(reference / name, output / name):
            return "wrong", f"{name} lies there and is not whole"
    if happens.signal is None:
        return (
            ("clear", "")
            if ended.code == 0 or (ended.code == 1 and ended.error)
            else ("crash", f"{ended.code}: {ended.said[-300:]}")
        )
    wanted = (0, -happens.signal, STOPPED.get(happens.signal))
    return ("clear", "") if ended.code in wanted else ("crash", f"{ended.code}: {ended.said[-300:]}")


def _judge_second(ended: Ended, reference: Path, output: Path) -> tuple[str, str]:
    """Judge the run after it: all that the undisturbed one wrote is there, and equal."""
    found = how_it_ended(ended, set(), set())
    if ended.code == 0 and found is None:
        differences = differing(reference, output)
        left = [path.name for path in output.rglob(".*.partial*")]
        if differences or left:
            return ("wrong", f"after it was run again: {'; '.join([*differences, *left][:4])}")
        return "right", ""
    outcome, said = found or ("lost", ended.error)
    return ("lost" if outcome == "clear" else outcome), said
