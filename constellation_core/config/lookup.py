"""Finds agent.toml and reads it. Imports nothing heavy: every command pays for this."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constellation_core.config.problems import ConfigError, Problem

CONFIG_VARIABLE = "CONSTELLATION_CONFIG"
FILE_NAME = "agent.toml"
SYSTEM_FILE = Path("/etc/constellation/agent.toml")

LARGEST_FILE = 1 << 20
"""Bytes; more is a wrong file."""

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def find_config(option: Path | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Which file holds the settings.

    The first of: ``option`` (``--config``), ``$CONSTELLATION_CONFIG``, ``./agent.toml``,
    ``/etc/constellation/agent.toml``. The first two are taken even if there is no such file.

    Raises:
        ConfigError: when there is none.
    """
    environ = os.environ if environ is None else environ
    if option is not None:
        return option
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    for path in (Path(FILE_NAME), SYSTEM_FILE):
        # A file in a folder that we may not enter is still the one that is meant.
        if os.path.lexists(path):
            return path
    raise ConfigError.of(
        f"no settings found: neither --config nor ${CONFIG_VARIABLE} is given, and there is "
        f"neither ./{FILE_NAME} nor {SYSTEM_FILE}; write one with: constellation init"
    )


def read_text(path: Path) -> str:
    """The text of the file.

    Raises:
        ConfigError: when it cannot be read or is not text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError.of(
            "there is no such file; write one with: constellation init", path
        ) from None
    except IsADirectoryError:
        raise ConfigError.of(
            f"is a folder; name the file in it, such as {path / FILE_NAME}", path
        ) from None
    except PermissionError:
        raise ConfigError.of(
            "may not be read by this user; run as its owner, or change its mode (ls -l shows it)",
            path,
        ) from None
    except OSError as error:
        raise ConfigError.of(f"cannot be read: {error.strerror or error}", path) from None
    if len(data) > LARGEST_FILE:
        raise ConfigError.of(
            f"is larger than {LARGEST_FILE >> 20} MiB; is it the right file?", path
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problem = Problem("is not UTF-8 text here; save it as UTF-8", str(path), line, column)
        raise ConfigError([problem]) from None
    if text.startswith("\ufeff"):
        raise ConfigError.of("begins with a byte order mark; save it as UTF-8 without one", path)
    return text


def parse(text: str, path: Path) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ConfigError: with line and column of the mistake.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError.of("is not usable TOML: nested too deeply", path) from None
    except ValueError as error:
        message = str(error)
        position = _POSITION.search(message)
        line = column = None
        if position:
            message = message[: position.start()]
            if position[1]:
                line, column = int(position[1]), int(position[2])
            else:
                line = text.count("\n") + (not text.endswith("\n"))
                message += " at the end of the file"
        problem = Problem(f"is not valid TOML: {_lower_first(message)}", str(path), line, column)
        raise ConfigError([problem]) from None


def peek_enabled_plugins(
    option: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Names in ``[plugins] enabled``, read without the models, for the command line's start.

    Never raises: with settings that are missing or wrong there are no plugins, and the command
    that needs the settings says what is wrong with them.
    """
    environ = os.environ if environ is None else environ
    listed = environ.get("CONSTELLATION_PLUGINS_ENABLED")
    if listed is not None:
        names: Any = [name.strip() for name in listed.split(",") if name.strip()]
    else:
        try:
            path = find_config(option, environ)
            names = parse(read_text(path), path).get("plugins", {}).get("enabled", [])
        except (ConfigError, AttributeError):
            return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(dict.fromkeys(names))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
