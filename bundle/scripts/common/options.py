"""What a stage does with its command line: unknown options are refused, and errors end in the project's exit codes.

``python -m monai.bundle run`` takes any ``--name value`` as an override and adds names that no config has, so a
misspelt one is lost without a word. A config component cannot see the parser, but it can see the command line, so every
stage config starts its run list with ``$@options``, where ``options`` is
``{_target_: scripts.common.options.check_options}``.
"""

import difflib
import functools
import inspect
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import fire
import monai.bundle
from fire.parser import SeparateFlagArgs
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, run, run_workflow
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, ID_SEP_KEY
from monai.utils import ensure_tuple

from .config_check import nested, require_sound, spelled
from .config_help import describe
from .errors import RequestError, SlideError, StorageError, TrainingError
from .files import storage_reason
from .path_options import refuse_evaluated, typed_paths
from .words import set_in_config, understood

EXIT_FAILED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_WRONG_REQUEST = 2

_LOADER_DIED = re.compile(
    r"DataLoader worker .*(killed by signal: Bus error|exited unexpectedly)|unable to (write to|open|mmap).*shm|No space left",
    re.IGNORECASE | re.DOTALL,
)
_COMMANDS: dict[str, Callable[..., None]] = {"run": run, "run_workflow": run_workflow}


def check_options() -> None:
    """Set up the exit codes, answer ``--help``, refuse what cannot work, read ``true``, ``false``, ``null`` and paths as they were typed.

    Does nothing where the process is not ``python -m monai.bundle``: in another program the command line says nothing
    about the config, and the exit codes are its own affair.

    Raises:
        RequestError: an option is unknown to MONAI and to the config files (the message names the nearest known one), a path
            would be evaluated (:mod:`.path_options`), or the config refers to what is not there (:func:`.config_check.require_sound`).
        SystemExit: help was asked for and printed.
    """
    if Path(sys.argv[0]).resolve() != Path(monai.bundle.__file__).with_name("__main__.py").resolve():
        return
    given = given_options(sys.argv[1:])
    files = [str(file) for file in ensure_tuple(given.get("config_file") or ())]
    install_exit_codes(how_to_go_on(files))
    if "help" in given:
        print(describe(files))
        raise SystemExit(0)
    refuse_unknown(sys.argv[1:])
    own = {name: value for name, value in given.items() if name not in _monai_parameters()}
    refuse_evaluated(own)
    meant = {**understood(own), **typed_paths(own, sys.argv[1:])}
    set_in_config({name: value for name, value in meant.items() if value is not own[name]})
    require_sound(files, own)


def refuse_unknown(arguments: Sequence[str]) -> None:
    """Refuse unknown option names in ``arguments``, the words that follow ``python -m monai.bundle``.

    Known are the parameters of MONAI's ``run`` and of the workflow behind it, every id of the merged config files in
    any spelling that MONAI takes (``a#b``, ``a::b``), and with ``--tracking`` the ids of its settings.

    Raises:
        RequestError: see `check_options`.
    """
    given = given_options(arguments)
    if not given.get("config_file"):
        return
    config = ConfigParser(ConfigParser.load_config_files(given["config_file"]))
    known = _monai_parameters() | set(config[""])
    if given.get("tracking"):
        known |= _tracking_names(given["tracking"])

    unknown = [name for name in given if name not in known and name not in config]
    if unknown:
        hints = []
        for name in unknown:
            spelling = spelled(name)
            candidates = {spelled(id) for id, _ in nested(config[""])} if "#" in spelling else known
            nearest = difflib.get_close_matches(spelling, sorted(candidates), n=1, cutoff=0.0)
            hints.append(f"unknown option --{spelling}, the nearest known one is --{nearest[0]}")
        raise RequestError(f"{'; '.join(hints)} (options are the names in {given['config_file']})")


def resolve_bundle_root(bundle_root: str) -> str:
    """Return ``bundle_root`` as an absolute path, so that outputs do not depend on the working directory.

    Args:
        bundle_root: The bundle's folder. ".", the default of every config, is the folder that holds this code, wherever the process works.

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


def how_to_go_on(config_files: Sequence[str]) -> str:
    """The word for a run that is interrupted, by what ``resume`` is in its config."""
    config: Mapping[str, Any] = ConfigParser.load_config_files(config_files) if config_files else {}
    if "resume" not in config:
        return "the same command begins anew"
    if config["resume"] is True:
        return "the same command goes on: what is finished is kept (--resume true, the default)"
    return "the same command with --resume true goes on"


def install_exit_codes(go_on: str = "the same command begins anew") -> None:
    """Let what ends the process say so in one line, with an exit code of its own.

    An uncaught `RequestError` has code 2. A `SlideError`, `StorageError` or `TrainingError` has 1, and so have errors of the system that
    writing meets (disk full, read-only, no permission) and loader processes without shared memory. Ctrl-C has 130 and SIGTERM 143; both
    leave through every ``finally``. MONAI raises the errors of components again inside a ``RuntimeError`` that quotes the whole
    component, so the chain of causes is searched. Any other error keeps its traceback and Python's code 1.

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
            "a process that loads data died, as where /dev/shm is too small; expected room for some batches there: give --num_workers 0, "
            "or make it larger (docker run --shm-size 2g)"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield ``error`` and what a traceback would show above it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def given_options(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options by name, positional ones and those of ``--args_file`` included; empty for other commands."""
    given: dict[str, Any] = {}

    def recorder(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def record(*args: Any, **kwargs: Any) -> None:
            given.update(zip(inspect.signature(command).parameters, args, strict=False))
            given.update(kwargs)

        return record

    words, _ = SeparateFlagArgs(list(arguments))
    if words and words[0] in _COMMANDS:
        fire.Fire({name: recorder(command) for name, command in _COMMANDS.items()}, command=words)
    if given.get("args_file"):
        given = {
            **ConfigParser.load_config_file(given["args_file"]),
            **{name: value for name, value in given.items() if value is not None},
        }
    return {name.replace("#", ID_SEP_KEY): value for name, value in given.items()}


def _monai_parameters() -> set[str]:
    """Return the named parameters that MONAI itself takes out of the options."""
    parameters = [
        parameter
        for function in (run, run_workflow, create_workflow, ConfigWorkflow)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}


def _tracking_names(tracking: Any) -> set[str]:
    """Return the ids that ``--tracking`` adds to the config: of a built-in setting, or of settings files."""
    settings: Any = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) if isinstance(tracking, str) else None
    return set((settings or ConfigParser.load_config_files(tracking))["configs"])
