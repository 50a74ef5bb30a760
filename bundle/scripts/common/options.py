"""What a stage does with its command line: what cannot work is refused, and errors end in the project's exit codes.

``python -m monai.bundle run`` takes any ``--name value`` as an override and adds names that no config has, so a
misspelt one is lost without a word. A config component cannot see the parser, but it can see the command line, so every
stage config starts its run list with ``$@options()``, where ``options`` is
``{_target_: scripts.common.options.check_options, _mode_: callable}``. ``initialize`` starts with a check, too: what MONAI itself
refuses after it, such as an id that cannot be run, ends in one line as well.
"""

import logging
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn
from weakref import WeakSet

import monai.bundle

from .command_line import parse_command_line
from .config_check import spelled
from .config_files import merged, refuse_misplaced
from .config_help import describe
from .errors import RequestError, SlideError, StorageError, TrainingError
from .files import storage_reason
from .option_table import shown
from .option_types import OptionType
from .request import config_files, read_request
from .set_config import resolvers_in_use, set_in_config

EXIT_FAILED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_WRONG_REQUEST = 2

_LOADER_DIED = re.compile(
    r"DataLoader worker .*(killed by signal: Bus error|exited unexpectedly)|unable to (write to|open|mmap).*shm|No space left",
    re.IGNORECASE | re.DOTALL,
)

_CHECKED: WeakSet[Any] = WeakSet()
"""Resolvers of the configs that were checked: every list that can be run begins with the check."""


def check_options() -> None:
    """Set up the exit codes, answer ``--help``, refuse what cannot work, and put the values that were meant into the config.

    Does nothing where the process is not ``python -m monai.bundle``: in another program the command line says nothing
    about the config, and the exit codes are its own affair. It says nothing either about a config that a stage runs, as the search
    for the sparsity rate runs train_scae.yaml.

    Raises:
        RequestError: see :func:`.request.read_request` and :func:`.config_files.refuse_misplaced`.
        SystemExit: help was asked for and printed.
    """
    if Path(sys.argv[0]).resolve() != Path(monai.bundle.__file__).with_name("__main__.py").resolve():
        return
    resolvers = list(resolvers_in_use())
    resolver = resolvers[0] if resolvers else None
    if len(resolvers) > 1 or resolver in _CHECKED:
        return
    line = parse_command_line(sys.argv[1:])
    files = config_files(line.given)
    install_exit_codes(how_to_go_on(files))
    refuse_misplaced(files)
    if "help" in line.given:
        print(describe(files))
        raise SystemExit(0)
    request = read_request(line)
    set_in_config(request.changed, resolver)
    for name, type_ in request.computed.items():
        set_in_config({name: _computed(name, type_, resolver)}, resolver)
    _CHECKED.add(resolver)


def _computed(name: str, type_: OptionType, resolver: Any) -> Any:
    """Return the value of an option that MONAI computes.

    Raises:
        RequestError: it cannot be computed, or its value has the wrong type or lies outside its range.
    """
    try:
        value = resolver.get_resolved_content(name)
    except (RuntimeError, KeyError, ValueError, SyntaxError) as error:
        cause = error.__cause__ or error
        raise RequestError(f"--{spelled(name)}: it cannot be computed ({cause}), expected {type_.expected}") from error
    try:
        return type_.read(value)
    except ValueError as error:
        raise RequestError(f"--{spelled(name)} is computed as {shown(value)}: {error}") from error


def resolve_bundle_root(bundle_root: str) -> str:
    """Return ``bundle_root`` as an absolute path, so that outputs do not depend on the working directory.

    Args:
        bundle_root: The bundle's folder. ".", the default of every config, is the folder that holds this code, wherever the
            process works.

    Raises:
        RequestError: The folder holds no ``configs/metadata.json``.
    """
    root = Path(__file__).parents[2] if bundle_root == "." else Path(bundle_root).expanduser()
    root = root.resolve()
    if not (root / "configs" / "metadata.json").is_file():
        raise RequestError(
            f"bundle root {root}: holds no configs/metadata.json, so it is not a bundle's folder; "
            "give the folder that holds configs/ with --bundle_root"
        )
    return str(root)


def how_to_go_on(files: Sequence[str]) -> str:
    """The word for a run that is interrupted, by what ``resume`` is in its config."""
    config: Mapping[str, Any] = merged(files)[""]
    if "resume" not in config:
        return "the same command begins anew"
    if config["resume"] is True:
        return "the same command goes on: what is finished is kept (--resume true, the default)"
    return "the same command with --resume true goes on"


def install_exit_codes(go_on: str = "the same command begins anew") -> None:
    """Let what ends the process say so in one line, with an exit code of its own.

    An uncaught `RequestError` has code 2. A `SlideError`, `StorageError` or `TrainingError` has 1, and so have errors of the
    system that writing meets (disk full, read-only, no permission) and loader processes without shared memory. Ctrl-C has 130 and
    SIGTERM 143; both leave through every ``finally``. MONAI raises the errors of components again inside a ``RuntimeError`` that
    quotes the whole component, so the chain of causes is searched. Any other error keeps its traceback and Python's code 1.

    Args:
        go_on: what an interrupted user is told.
    """
    previous, previous_unraisable = sys.excepthook, sys.unraisablehook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _is_of_finalizer(trace):  # the run goes on: to leave here would skip every ``finally``
            if storage_reason(error) is None:
                previous(kind, error, trace)
            return
        if issubclass(kind, KeyboardInterrupt):
            _end(f"interrupted: {go_on}", EXIT_INTERRUPTED)
        for expected, code in (
            (RequestError, EXIT_WRONG_REQUEST),
            (SlideError, EXIT_FAILED),
            (StorageError, EXIT_FAILED),
            (TrainingError, EXIT_FAILED),
        ):
            found = next((cause for cause in _causes(error) if isinstance(cause, expected)), None)
            if found is not None:
                _end(f"error: {found}", code)
        reason = next(filter(None, map(_of_system, _causes(error))), None)
        if reason is not None:
            _end(f"error: {reason}", EXIT_FAILED)
        previous(kind, error, trace)

    def hush(ignored: "sys.UnraisableHookArgs") -> None:
        if ignored.exc_value is None or storage_reason(ignored.exc_value) is None:
            previous_unraisable(ignored)

    def stop(number: int, frame: FrameType | None) -> None:
        logging.disable(logging.CRITICAL)  # the engines log the trace of what ends them
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        print(f"terminated: {go_on}", file=sys.__stderr__, flush=True)
        raise SystemExit(EXIT_TERMINATED)

    sys.excepthook = hook
    sys.unraisablehook = hush  # h5py says it once for each object of a file that cannot be written
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)


def _is_of_finalizer(trace: TracebackType | None) -> bool:
    """Whether an error begins in Cython: that of a finalizer, which ends nothing, is shown to the hook too."""
    return trace is not None and trace.tb_frame.f_code.co_filename.endswith(".pyx")


def _end(line: str, code: int) -> NoReturn:
    """Print a line and end the process.

    Not to sys.stderr: torch.distributed replaces it by a buffer while it calls the hook, and drops that when the hook raises.
    """
    print(line, file=sys.__stderr__, flush=True)
    raise SystemExit(code)  # from a hook the interpreter honours it, and finalises as after sys.exit


def _of_system(error: BaseException) -> str | None:
    """Say in a line what the system refused, where that is why an error ended the run; None for any other."""
    file = getattr(error, "filename", None) or "outputs"
    reason = storage_reason(error)
    if reason is not None:
        expected = "expected room, and a folder that may be written"
        return f"{file}: cannot be written ({reason}); {expected}: make room, or name another --output_dir"
    if isinstance(error, PermissionError):
        return f"{file}: {error.strerror or error}; expected a file that this user may read or a folder that this user may write"
    if isinstance(error, RuntimeError) and _LOADER_DIED.search(str(error)):
        return (
            "a process that loads data died, as where /dev/shm is too small; expected room for some batches there: give "
            "--num_workers 0, or make it larger (docker run --shm-size 2g)"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield ``error`` and what a traceback would show above it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
