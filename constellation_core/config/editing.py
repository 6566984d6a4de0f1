"""Changes ``[plugins] enabled`` in agent.toml and leaves all else as it was written."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Array

from constellation_core.config.environment import variable_of
from constellation_core.config.files import replace_file
from constellation_core.config.lookup import parse, read_text
from constellation_core.config.positions import scan
from constellation_core.config.problems import ConfigError, Problem, did_you_mean, nearest
from constellation_core.config.template import toml_value


@dataclass(frozen=True, slots=True)
class Edited:
    """What an edit did.

    Attributes:
        changed: whether the file was written; it was right already otherwise.
        enabled: what the file's list holds now.
        overridden_by: the variable that overrides the file's list at present, or ``""``.
    """

    changed: bool
    enabled: tuple[str, ...]
    overridden_by: str


def enable_plugin(
    path: Path, name: str, available: Iterable[str], environ: Mapping[str, str] | None = None
) -> Edited:
    """Put ``name`` at the end of ``[plugins] enabled``, unless it is there already.

    Args:
        path: agent.toml.
        name: the plugin's name.
        available: names of the installed plugins.
        environ: the environment; by default the process's own.

    Raises:
        ConfigError: when no such plugin is installed, or the file cannot be read or written.
    """
    text = _read(path)
    enabled = _enabled(text, path)
    if name not in enabled:
        known = sorted(available)
        if name not in known:
            near = nearest(name, known)
            hint = did_you_mean(near) or f"; installed are {', '.join(known) or 'none'}"
            raise ConfigError([Problem(f"no plugin {name!r} is installed{hint}", nearest=near)])
        _write(path, text, [*enabled, name])
    return _edited(name not in enabled, [*enabled, *([] if name in enabled else [name])], environ)


def disable_plugin(
    path: Path, name: str, available: Iterable[str], environ: Mapping[str, str] | None = None
) -> Edited:
    """Take ``name`` out of ``[plugins] enabled``; its table stays.

    Args:
        path: agent.toml.
        name: the plugin's name.
        available: names of the installed plugins; one of them that is not enabled is no error.
        environ: the environment; by default the process's own.

    Raises:
        ConfigError: when the name is neither enabled nor installed, or the file cannot be
            read or written.
    """
    text = _read(path)
    enabled = _enabled(text, path)
    left = [each for each in enabled if each != name]
    if name in enabled:
        _write(path, text, left)
    elif name not in set(available):
        near = nearest(name, enabled)
        hint = did_you_mean(near) or f"; enabled are {', '.join(enabled) or 'none'}"
        raise ConfigError([Problem(f"no plugin {name!r} is enabled{hint}", nearest=near)])
    return _edited(name in enabled, left, environ)


def with_enabled(text: str, wanted: list[str]) -> str:
    """The document ``text`` with ``[plugins] enabled`` holding ``wanted``, all else as it was.

    Names that stay keep their line and its comment; new ones are added at the end.

    Raises:
        ValueError: when the document is written so that it cannot be changed safely.
    """
    for attempt in (_with_new_header, _with_tomlkit, _with_splice):
        try:
            changed = attempt(text, wanted)
            _require_only_change(text, changed, wanted)
        except (TOMLKitError, ValueError, TypeError, KeyError, IndexError):
            continue
        return changed
    raise ValueError("no change was found that leaves all else as it is")


def _with_tomlkit(text: str, wanted: list[str]) -> str:
    document = tomlkit.parse(text)
    if "plugins" not in document:
        table = tomlkit.table()
        table["enabled"] = wanted
        document["plugins"] = table
    elif "enabled" not in document["plugins"]:
        document["plugins"]["enabled"] = wanted
    else:
        _change(document["plugins"]["enabled"], wanted)
    changed = tomlkit.dumps(document)
    # tomlkit ends the lines that it makes with a line feed alone.
    uniform = text.count("\r\n") == text.count("\n") > 0
    return re.sub(r"(?<!\r)\n", "\r\n", changed) if uniform else changed


def _with_splice(text: str, wanted: list[str]) -> str:
    """Add names right behind the last one.

    For lists in which a comment follows the last name: tomlkit 0.15 may put the new one into it.
    """
    places = scan(text)
    elements = [path for path in places if path[:-1] == ("plugins", "enabled")]
    if not elements:
        raise ValueError("there is no name to stand behind")
    place = places[elements[-1]]
    lines = text.split("\n")
    line, end = lines[place.line - 1], place.column - 1 + len(place.text)
    new = "".join(f", {toml_value(name)}" for name in wanted[len(elements) :])
    lines[place.line - 1] = line[:end] + new + line[end:]
    return "\n".join(lines)


def _with_new_header(text: str, wanted: list[str]) -> str:
    """Where there are tables of plugins only, tomlkit's new header repeats a comment of theirs."""
    place = scan(text).get(("plugins",))
    lines = text.split("\n")
    if place is None or not lines[place.line - 1].lstrip().startswith("["):
        raise ValueError("there is no table to stand before")
    index = place.line - 1
    while index and lines[index - 1].lstrip().startswith("#"):
        index -= 1
    end = "\r" if lines[place.line - 1].endswith("\r") else ""
    header = ("[plugins]", f"enabled = {toml_value(wanted)}", "")
    lines[index:index] = [line + end for line in header]
    return "\n".join(lines)


def _change(array: Any, wanted: list[str]) -> None:
    if not isinstance(array, Array):
        raise ValueError("it is no list")
    # From the end, so that the indexes before stay right.
    for index in reversed(range(len(array))):
        if str(array[index]) not in wanted:
            del array[index]
    present = [str(each) for each in array]
    for name in wanted:
        if name not in present:
            array.append(name)


def _require_only_change(before: str, after: str, wanted: list[str]) -> None:
    """Refuse a result that differs in anything but the list."""
    old, new = tomllib.loads(before), tomllib.loads(after)
    found = new.get("plugins", {}).pop("enabled", None)
    old.get("plugins", {}).pop("enabled", None)
    old.setdefault("plugins", {})
    if found != wanted or old != new:
        raise ValueError("the change would reach further than the list")


def _read(path: Path) -> str:
    text = read_text(path)
    parse(text, path)
    return text


def _enabled(text: str, path: Path) -> list[str]:
    plugins = parse(text, path).get("plugins", {})
    enabled = plugins.get("enabled", []) if isinstance(plugins, dict) else None
    if not isinstance(enabled, list) or not all(isinstance(each, str) for each in enabled):
        places = scan(text)
        place = places.get(("plugins", "enabled")) or places[("plugins",)]
        message = "expected a list of plugin names; mend it first"
        raise ConfigError(
            [Problem(message, str(path), place.line, place.column, "plugins.enabled")]
        )
    return enabled


def _write(path: Path, text: str, wanted: list[str]) -> None:
    try:
        changed = with_enabled(text, wanted)
    except ValueError as error:
        names = ", ".join(f'"{name}"' for name in wanted)
        message = f"cannot be edited safely: {error}; set it by hand to [{names}]"
        raise ConfigError.of(message, path, "plugins.enabled") from None
    try:
        replace_file(path, changed.encode())
    except OSError as error:
        raise ConfigError.of(f"cannot be written: {error.strerror or error}", path) from None


def _edited(changed: bool, enabled: list[str], environ: Mapping[str, str] | None) -> Edited:
    variable = variable_of("plugins", "enabled")
    overridden = variable in (os.environ if environ is None else environ)
    return Edited(changed, tuple(enabled), f"${variable}" if overridden else "")
