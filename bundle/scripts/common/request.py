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
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, ID_REF_KEY, ID_SEP_KEY
from monai.utils import ensure_tuple

from .command_line import CommandLine, Given
from .config_check import nested, require_sound, spelled
from .config_files import lay, merged, read_config
from .config_help import read_options
from .errors import RequestError
from .option_structures import Items, Section, type_like
from .option_table import PATH_ARGUMENTS, named, options_of
from .option_types import MARKS, OptionType, PathText, YesNo, is_null, read_as, shown
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
    reader = _Reader(config, files)
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
    _, values = _Reader(config, files).read_all(own)
    require_sound(files, values)
    return {spelled(name): value for name, value in values.items()}


class _Reader:
    """Reads options by their types, files first; what it finds wrong is told at once."""

    def __init__(self, config: ConfigParser, files: Sequence[str]) -> None:
        self.files = files
        self.types = options_of(config[""])
        self.nullable = {
            spelled(name.lstrip("+")) for file in files for name, value in nested(read_config(file)) if value is None
        }
        self.computed: dict[str, OptionType] = {}
        self.faults: list[str] = []

    def read_all(self, own: Mapping[str, Given]) -> tuple[ConfigParser, dict[str, Any]]:
        """Return the config as it was meant, and the values of the command line by id."""
        meant = ConfigParser(config={})
        for file in self.files:
            content = read_config(file)
            lay(meant, {key: self._of_file(file, key, value, meant) for key, value in content.items()})
        values = {name: self._of_command_line(name, option, meant) for name, option in own.items() if name in meant}
        if self.faults:
            raise RequestError("; ".join(self.faults))
        for name, value in values.items():
            meant[name] = value
        return meant, values

    def _of_file(self, file: str, key: str, value: Any, below: ConfigParser) -> Any:
        """Read what a file says of a key, and of what lies in it, where that is known from the files below."""
        name = key.lstrip("+").replace("#", ID_SEP_KEY)
        return self._compared(f"{file}: ", name, value, below.get(name))

    def _compared(self, where: str, name: str, value: Any, default: Any) -> Any:
        if is_component(value) and not isinstance(default, dict):
            return value
        if isinstance(value, dict) and isinstance(default, dict):
            if value.get("_target_", default.get("_target_")) != default.get("_target_"):
                return value  # another component, whose arguments are its own
            return {
                key: self._compared(where, f"{name}{ID_SEP_KEY}{key}", part, default.get(key))
                for key, part in value.items()
            }
        type_ = type_of(name, default, self.types)
        if type_ is None or (isinstance(value, str) and value.startswith(MARKS)):
            return value
        return self._read(where, name, value, type_, default)

    def _of_command_line(self, name: str, option: Given, meant: ConfigParser) -> Any:
        default = meant[name]
        type_ = type_of(name, default, self.types)
        raw = option.value if option.text is None else option.text
        if type_ is None:
            return _as_yaml(option.value)
        if isinstance(raw, str) and raw.startswith(MARKS) and not _is_path(type_):
            self.computed[name] = type_
            return option.value
        if option.text is None and raw is True and not isinstance(type_, YesNo):
            self.faults.append(f"--{spelled(name)}: no value, expected {type_.expected}: write it behind the option")
            return None
        return self._read("--", name, option.value if isinstance(type_, Section) else raw, type_, default)

    def _read(self, where: str, name: str, raw: Any, type_: OptionType, default: Any) -> Any:
        if is_null(raw) and (isinstance(type_, Section) or self._may_be_null(name, default)):
            return None
        try:
            return read_as(type_, spelled(name), raw)
        except ValueError as error:
            self.faults.append(f"{where}{error}")
            return None

    def _may_be_null(self, name: str, default: Any) -> bool:
        referred = default[len(ID_REF_KEY) :] if isinstance(default, str) and default.startswith(ID_REF_KEY) else ""
        return spelled(name) in self.nullable or referred in self.nullable


def type_of(name: str, default: Any, known: Mapping[str, OptionType]) -> OptionType | None:
    """Return the type of an id; None where nothing says it.

    Args:
        name: an option, or the id of what lies in a component.
        default: its value in the config.
        known: the options of the config.
    """
    if is_component(default):  # under the name of an option of other stages
        return type_like(default)
    if ID_SEP_KEY not in name:
        return known[name] if name in known else type_like(default)
    if isinstance(default, str) and default.startswith(ID_REF_KEY):
        return named(default[len(ID_REF_KEY) :], known)
    found = named(spelled(name), known)
    if found is not None and _admits(found, default):
        return found
    return PathText() if name.rpartition(ID_SEP_KEY)[2] in PATH_ARGUMENTS else type_like(default)


def _admits(type_: OptionType, default: Any) -> bool:
    """Whether a default is of a type, so that an argument is what the option of its name is."""
    if default is None or (isinstance(default, str) and default.startswith(MARKS)):
        return True
    try:
        return bool(type_.read(default) == default)
    except ValueError:
        return False


def is_component(value: Any) -> bool:
    """Whether a value of a config is a component."""
    return isinstance(value, dict) and "_target_" in value


def refuse_unknown(
    own: Mapping[str, Given], config: ConfigParser, given: Mapping[str, Given], files: Sequence[str]
) -> None:
    """Refuse options that are neither MONAI's, nor an id of the config in any spelling, nor with ``--tracking`` a setting of it.

    Raises:
        RequestError: names the nearest known one of each.
    """
    known = monai_parameters() | set(config[""])
    if "tracking" in given:
        known |= _tracking_names(given["tracking"].value)
    hints = []
    for name in own:
        if name in known or name in config:
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
    """Refuse to run what is not there; MONAI passes over an ``init_id`` or a ``final_id`` that it does not find."""
    stages = sorted(name for name, value in config[""].items() if isinstance(value, list) and _CHECK in value)
    asked = {name: given[name].value for name in ("run_id", "init_id", "final_id") if name in given}
    for option, asked_id in ({"run_id": "run"} | asked).items():
        if asked_id is None or str(asked_id) in config:
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


def _as_yaml(value: Any) -> Any:
    """Read the words of YAML in an option whose type nothing says: a text is true, also "no"."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "null": None}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _is_path(type_: OptionType) -> bool:
    return isinstance(type_, PathText) or (isinstance(type_, Items) and isinstance(type_.item, PathText))


def _tracking_names(tracking: Any) -> set[str]:
    """Return the ids that ``--tracking`` adds to the config: of a built-in setting, or of settings files."""
    settings: Any = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) if isinstance(tracking, str) else None
    return set((settings or ConfigParser.load_config_files(tracking))["configs"])
