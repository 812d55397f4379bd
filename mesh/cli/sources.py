"""Where the value of an option comes from: the command line, the environment or a TOML file.

A value keeps the name of the place it stood at, so that a refusal says what to edit.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from mesh.cli.keys import readable_by_others
from mesh.cli.options import JOIN_OPTIONS, OPTION_NAMED, Option, OptionKind
from mesh.errors import ConfigError

_Value = TypeVar("_Value")

Flags: TypeAlias = Mapping[str, object]
"""What argparse found under the options' names: str, a list of str, bool, or None for unsaid."""


class UsageError(ConfigError):
    """The command line itself is wrong: exit code 2 instead of 1."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value as the user wrote it.

    Attributes:
        texts: the value; several for a LIST, none for a SWITCH that is on.
        where: the flag, the variable or the file.
        key: the key in the file, or "".
        is_flag: whether it stood on the command line.
    """

    texts: tuple[str, ...]
    where: str
    key: str = ""
    is_flag: bool = False

    def read(self, reader: Callable[[str], _Value]) -> tuple[_Value, ...]:
        """Return what ``reader`` makes of each text.

        Raises:
            ConfigError: ``reader`` raised `ValueError`.
        """
        try:
            return tuple(map(reader, self.texts))
        except ValueError as error:
            raise self.refusal(str(error)) from None

    def refusal(self, message: str) -> ConfigError:
        """Return the error to raise for this value."""
        return (UsageError if self.is_flag else ConfigError)(self.where, self.key, message)


Layer: TypeAlias = Mapping[str, Given]
"""The options that one source gives, by name; switches that are off in flags are left out."""


def layer_from_flags(flags: Flags) -> Layer:
    """Return what the command line says."""
    layer = {}
    for option in JOIN_OPTIONS:
        value = flags.get(option.name)
        if value is None or value is False:
            continue
        texts = tuple(map(str, value)) if isinstance(value, list) else (str(value),)
        if option.kind is OptionKind.SWITCH:
            texts = ()
        layer[option.name] = Given(texts, f"--{option.name}", is_flag=True)
    return layer


def layer_from_environment(environment: Mapping[str, str]) -> Layer:
    """Return what the variables say; an empty directory is taken as unset, an empty key is not.

    A deployment whose secret got lost must not end up with a new key and a network of its own.
    """
    return {
        option.name: Given((environment[option.variable],), option.variable)
        for option in JOIN_OPTIONS
        if option.variable
        and option.variable in environment
        and (environment[option.variable] or option.name == "key")
    }


def layer_from_file(path: Path, *, must_exist: bool) -> tuple[Layer, list[str]]:
    """Return what a TOML file says, and warnings about the file.

    Relative paths in it are relative to its directory, so that they mean the same to a service
    and to a shell.

    Raises:
        ConfigError: it cannot be read, is not TOML, has unknown keys or values of a wrong type.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
            others = readable_by_others(path, os.fstat(file.fileno()))
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(str(path), "", "there is no such file") from None
        return {}, []
    except OSError as error:
        raise ConfigError(str(path), "", f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(str(path), "", f"is not TOML: {error}") from None
    layer = dict(_given_in_document(document.items(), path))
    proxy = layer.get("proxy")
    is_secret = "key" in layer or (proxy is not None and any("@" in text for text in proxy.texts))
    return layer, others if is_secret else []


def _given_in_document(
    items: Iterable[tuple[str, object]], path: Path
) -> Iterable[tuple[str, Given]]:
    for key, value in items:
        option = OPTION_NAMED.get(key)
        if option is None:
            raise ConfigError(str(path), key, f"is not an option{_suggestion(key)}")
        given = Given(_texts_of_toml(option, value, path), str(path), key)
        if value is not False:
            yield key, _with_path_beside(option, given, path)


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key.lower().replace("_", "-"), OPTION_NAMED, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _texts_of_toml(option: Option, value: object, path: Path) -> tuple[str, ...]:
    is_bool = isinstance(value, bool)
    match option.kind:
        case OptionKind.SWITCH if is_bool:
            return ()
        case OptionKind.NUMBER if isinstance(value, int) and not is_bool:
            return (str(value),)
        case OptionKind.LIST if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        case OptionKind.TEXT | OptionKind.LIST if isinstance(value, str):
            return (value,)
        case _:
            expected = _TOML_TYPES[option.kind]
            found = "something else" if option.name in {"key", "proxy"} else repr(value)
            raise ConfigError(str(path), option.name, f"has to be {expected}, not {found}")


_TOML_TYPES = {
    OptionKind.TEXT: "a string",
    OptionKind.NUMBER: "a whole number",
    OptionKind.SWITCH: "true or false",
    OptionKind.LIST: "a string or a list of strings",
}


def _with_path_beside(option: Option, given: Given, file: Path) -> Given:
    if option.metavar not in {"FILE", "DIR"}:
        return given
    return Given(tuple(str(file.parent / text) for text in given.texts), given.where, given.key)
