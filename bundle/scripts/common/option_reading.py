"""The values of options: each is read by the type that its name, its place or its default says."""

from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_REF_KEY, ID_SEP_KEY

from .command_line import Given
from .config_check import nested, spelled
from .config_files import lay, read_config
from .errors import RequestError
from .option_structures import Items, Section, type_like
from .option_table import PATH_ARGUMENTS, named, options_of
from .option_types import MARKS, OptionType, PathText, YesNo, is_null, read_as

_DISABLED = "_disabled_"


class OptionReader:
    """Reads options by their types, files first; what it finds wrong is told at once.

    Args:
        config: what the files make.
        files: config files, an overlay after what it lies on.

    ``computed`` has the types of options that MONAI computes, by id.
    """

    def __init__(self, config: ConfigParser, files: Sequence[str]) -> None:
        self.files = files
        self.types = options_of(config[""])
        self.nullable = {
            spelled(name.lstrip("+")) for file in files for name, value in nested(read_config(file)) if value is None
        }
        self.computed: dict[str, OptionType] = {}
        self.faults: list[str] = []

    def read_all(self, own: Mapping[str, Given]) -> tuple[ConfigParser, dict[str, Any]]:
        """Return the config as it was meant, and the values of the command line by id.

        Raises:
            RequestError: options have the wrong type or lie outside their range.
        """
        meant = ConfigParser(config={})
        for file in self.files:
            content = read_config(file)
            lay(meant, {key: self._of_file(file, key, value, meant) for key, value in content.items()})
        for name in own:
            if disables(name, meant) and name not in meant:
                meant[name] = False  # what MONAI takes it for
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
        if isinstance(default, list) and isinstance(type_, Section):
            self.faults.append(
                f"--{spelled(name)}: a list that the config is made of, expected in an overlay alone: leave it out"
            )
            return None
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


def disables(name: str, config: ConfigParser) -> bool:
    """Whether an id is MONAI's word, in a component of a config, that leaves this out: ``early_stopping#_disabled_``."""
    component, _, key = name.rpartition(ID_SEP_KEY)
    return key == _DISABLED and is_component(config.get(component))


def type_of(name: str, default: Any, known: Mapping[str, OptionType]) -> OptionType | None:
    """Return the type of an id; None where nothing says it.

    Args:
        name: an option, or the id of what lies in a component.
        default: its value in the config.
        known: the options of the config.
    """
    if name.endswith(f"{ID_SEP_KEY}{_DISABLED}"):
        return YesNo()
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


def _as_yaml(value: Any) -> Any:
    """Read the words of YAML in an option whose type nothing says: a text is true, also "no"."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "null": None}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _is_path(type_: OptionType) -> bool:
    return isinstance(type_, PathText) or (isinstance(type_, Items) and isinstance(type_.item, PathText))
