"""What a command asks for, checked before any work: names, types, ranges, and that the config can work.

Nothing is run, and nothing is written. What MONAI took for another value than was meant is returned, for :mod:`.options` to put
right.
"""

import difflib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, run, run_workflow
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, ID_SEP_KEY
from monai.utils import ensure_tuple

from .command_line import CommandLine, Given
from .config_check import nested, require_sound, spelled
from .config_files import merged
from .config_help import read_options
from .errors import RequestError
from .option_reading import OptionReader, disables
from .option_types import OptionType, shown
from .renamed_options import refuse_renamed

_PROCESSES = "WORLD_SIZE"  # torchrun says so how many there are
_CHECK = "$@options()"  # begins what can be run


@dataclass(frozen=True)
class Request:
    """A request that may go on.

    ``changed`` has values by id that MONAI took for others. ``computed`` has the types of options on the command line that MONAI
    computes (``$...``): they are checked when it has.
    """

    changed: dict[str, Any]
    computed: dict[str, OptionType]


def config_files(given: Mapping[str, Given]) -> list[str]:
    """The config files of a request, an overlay after what it lies on."""
    return [str(file) for file in ensure_tuple(given["config_file"].value)] if "config_file" in given else []


def read_request(line: CommandLine) -> Request:
    """Check a request.

    Raises:
        RequestError: a word belongs to no option; an option is unknown (the message names the nearest known one), was renamed, is
            given twice, has the wrong type or lies outside its range; there is no such id to run; there are several processes and
            nothing that shares the work among them; or the config cannot work (:func:`.config_check.require_sound`).
    """
    line.require_once()
    given = line.given
    files = config_files(given)
    if not files:
        return Request({}, {})
    config = merged(files)
    _require_ids(config, given, files)
    own = {name: option for name, option in given.items() if name not in monai_parameters()}
    own = dict(_with_negated(own, config))
    refuse_renamed(own, files)
    refuse_unknown(own, config, given, files)
    _require_one_process(config)
    reader = OptionReader(config, files)
    meant, values = reader.read_all(own)
    require_sound(files, values)
    for name in values:
        if own[name].value is not None:  # MONAI passes over None
            config[name] = own[name].value
    return Request(dict(_changes(config.config, meant.config)), reader.computed)


def options_meant(files: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options that one stage gives to another as the other's command does; return what they mean, by id.

    Args:
        files: config files of the other stage, an overlay after what it lies on.
        options: by id; texts as they would be typed, or values.

    Raises:
        RequestError: see :func:`read_request`.
    """
    own = {
        name.replace("#", ID_SEP_KEY): Given(value, value if isinstance(value, str) else None)
        for name, value in options.items()
    }
    refuse_renamed(own, files)
    config = merged(files)
    refuse_unknown(own, config, {}, files)
    _, values = OptionReader(config, files).read_all(own)
    require_sound(files, values)
    return {spelled(name): value for name, value in values.items()}


def refuse_unknown(
    own: Mapping[str, Given], config: ConfigParser, given: Mapping[str, Given], files: Sequence[str]
) -> None:
    """Refuse options that are neither MONAI's, nor an id of the config in any spelling, nor with ``--tracking`` a setting of it.

    ``--a#_disabled_`` is known of every component ``a``, whether its config says so or not.

    Raises:
        RequestError: names the nearest known one of each.
    """
    known = monai_parameters() | set(config[""])
    if "tracking" in given:
        known |= _tracking_names(given["tracking"].value)
    hints = []
    for name in own:
        if name in known or name in config or disables(name, config):
            continue
        spelling = spelled(name)
        if "#" in spelling:
            near = nearest(spelling, {spelled(id) for id, _ in nested(config[""])})
        else:  # a value of a component is found by its last part, too
            ids = {option.rpartition("#")[2]: option for option in read_options(files)}
            near = nearest(spelling, known | set(ids))
            near = near if near in known else ids[near]
        hints.append(f"unknown option --{spelling}, the nearest known one is --{near}")
    if hints:
        raise RequestError(f"{'; '.join(hints)} (options are the names in {', '.join(files)})")


def nearest(name: str, known: Iterable[str]) -> str:
    """The name of which ``name`` has the initials, as ``lr`` has those of learning_rate, or else the one written most alike."""
    names = sorted(known)
    of_initials = [one for one in names if "".join(word[:1] for word in one.split("_")) == name.lower()]
    return (of_initials or difflib.get_close_matches(name, names, n=1, cutoff=0.0))[0]


def monai_parameters() -> set[str]:
    """The named parameters that MONAI itself takes out of the options."""
    parameters = [
        parameter
        for function in (run, run_workflow, create_workflow, ConfigWorkflow)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}


def _require_ids(config: ConfigParser, given: Mapping[str, Given], files: Sequence[str]) -> None:
    """Refuse to run what is not there; MONAI passes over an ``init_id`` or a ``final_id`` that it does not find.

    What they are by default is not refused.
    """
    passed_over = {name: inspect.signature(ConfigWorkflow).parameters[name].default for name in ("init_id", "final_id")}
    stages = sorted(name for name, value in config[""].items() if isinstance(value, list) and _CHECK in value)
    asked = {name: given[name].value for name in ("run_id", "init_id", "final_id") if name in given}
    for option, asked_id in ({"run_id": "run"} | asked).items():
        if asked_id is None or asked_id == passed_over.get(option) or str(asked_id) in config:
            continue
        near = f"; the nearest is {nearest(str(asked_id), stages)}" if stages else ""
        raise RequestError(
            f"{option} {shown(asked_id)}: there is no such id in {', '.join(files)}{near}; expected one of "
            f"{', '.join([*stages, 'run'])}"
        )


def _require_one_process(config: ConfigParser) -> None:
    """Refuse several processes where nothing shares the work among them: each would do all of it and write the same files."""
    processes = os.environ.get(_PROCESSES, "1")
    if not processes.isdecimal() or int(processes) < 2:
        return
    if not any(isinstance(value, str) and "init_process_group" in value for _, value in nested(config[""])):
        raise RequestError(
            f"{_PROCESSES} is {processes}, and nothing here shares the work: every process would do all of it and write the same "
            "files; to train with several, name multi_gpu_train.yaml after train.yaml; anything else runs as one process, "
            "without torchrun"
        )


def _with_negated(own: Mapping[str, Given], config: ConfigParser) -> Iterator[tuple[str, Given]]:
    """Yield the options; Fire takes ``--nograph`` for ``--graph False``."""
    for name, option in own.items():
        bare = name.removeprefix("no")
        negated = option == Given(True) and bare != name and name not in config and bare in config
        yield (bare, Given(False)) if negated else (name, option)


def _changes(before: Any, after: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield id and value of what differs, in kind or in value."""
    keys = after if isinstance(after, dict) else range(len(after))
    for key in keys:
        old, new, name = before[key], after[key], f"{prefix}{key}"
        same_kind = type(old) is type(new)
        is_section = isinstance(new, dict) and not any("#" in str(part) for part in new)  # else ids of another config
        if same_kind and (is_section or (isinstance(new, list) and len(old) == len(new))):
            yield from _changes(old, new, f"{name}{ID_SEP_KEY}")
        elif not same_kind or old != new:
            yield name, new


def _tracking_names(tracking: Any) -> set[str]:
    """Return the ids that ``--tracking`` adds to the config: of a built-in setting, or of settings files."""
    settings: Any = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) if isinstance(tracking, str) else None
    return set((settings or ConfigParser.load_config_files(tracking))["configs"])
