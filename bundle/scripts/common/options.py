"""What a stage does with its command line: what cannot work is refused, and errors end in the project's exit codes.

``python -m monai.bundle run`` takes any ``--name value`` as an override and adds names that no config has, so a
misspelt one is lost without a word. A config component cannot see the parser, but it can see the command line, so every
stage config starts its run list with ``$@options()``, where ``options`` is
``{_target_: scripts.common.options.check_options, _mode_: callable}``. ``initialize`` starts with a check, too: what MONAI itself
refuses after it, such as an id that cannot be run, ends in one line as well.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import monai.bundle

from .command_line import parse_command_line
from .config_check import spelled
from .config_files import merged, refuse_misplaced
from .config_help import describe
from .errors import RequestError
from .option_types import OptionType, shown
from .process import install_exit_codes, send_no_telemetry
from .request import config_files, read_request
from .set_config import resolvers_in_use, set_in_config

_CHECKED: WeakSet[Any] = WeakSet()
"""Resolvers of the configs that were checked: every list that can be run begins with the check."""


def check_options(**added: object) -> None:
    """Set up the exit codes, answer ``--help``, refuse what cannot work, and put the values that were meant into the config.

    Does nothing where the process is not ``python -m monai.bundle``: in another program the command line says nothing
    about the config, and the exit codes are its own affair. It says nothing either about a config that a stage runs, as the search
    for the sparsity rate runs train_scae.yaml.

    Args:
        added: by ``--options#name``, which is refused as an unknown option.

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
    send_no_telemetry()
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


def resolve_bundle_root(folder: str) -> str:
    """Return the bundle's folder as an absolute path, so that outputs do not depend on the working directory.

    Args:
        folder: the bundle's folder. ".", the default of every config, is the folder that holds this code, wherever the
            process works.

    Raises:
        RequestError: The folder holds no ``configs/metadata.json``.
    """
    root = Path(__file__).parents[2] if folder == "." else Path(folder).expanduser()
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
