"""Settings from environment variables: their names, and how their text is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from constellation_core.config.annotations import is_list, keys_of, members, nested_fields
from constellation_core.config.lookup import CONFIG_VARIABLE
from constellation_core.config.problems import Problem, did_you_mean, nearest
from constellation_core.config.settings import SECTIONS

PREFIX = "CONSTELLATION_"
PLUGINS_PREFIX = "CONSTELLATION_PLUGINS_"

OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "CONSTELLATION_DEBUG"})
"""Variables with the prefix that are no settings, and that may be set by hand."""

GIVEN_VARIABLES = frozenset({"CONSTELLATION_AGENT", "CONSTELLATION_INSTANCE"})
"""What drivers tell the instances they run: the command line works inside of those too."""

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def variable_of(table: str, key: str) -> str:
    """The variable of a setting: ``gossip``, ``bind`` gives ``CONSTELLATION_GOSSIP_BIND``.

    The table of a plugin is ``plugins.NAME``; what is no letter or digit becomes ``_``.
    """
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", f"{table}_{key}".upper())


def read_text(annotation: Any, text: str) -> Any:
    """Turn the text of a variable into what TOML would have given for this type.

    Lists are separated by commas; what is made of tables is written as in TOML. Text that
    does not fit comes back as it is, for the model to refuse.
    """
    kinds = members(annotation)
    for kind in kinds:
        if is_list(kind):
            return _read_list(kind, text)
        if text.lstrip().startswith("{") and _is_table(kind):
            return _read_toml(text)
    word = text.strip()
    if bool in kinds and word.lower() in _TRUE | _FALSE:
        return word.lower() in _TRUE
    readers = [reader for reader in (int, float) if reader in kinds] or _of_literals(kinds)
    for reader in readers:
        try:
            return reader(word)
        except ValueError:
            continue
    return text


def unknown_variables(
    environ: Mapping[str, str], plugins: Iterable[str]
) -> tuple[list[Problem], list[Problem]]:
    """Variables with our prefix that nothing reads.

    Args:
        environ: the environment.
        plugins: names of the plugins that are enabled or have a table. Which fields they have,
            only their models know: :func:`~.plugin_tables.validate_plugin_table` looks.

    Returns:
        Errors, and warnings: a variable for a plugin that is not in use does no harm.
    """
    known = {
        variable_of(section, key) for section, model in SECTIONS.items() for key in keys_of(model)
    }
    plugins = list(plugins)
    errors, warnings = [], []
    for name in sorted(environ):
        if (
            not name.startswith(PREFIX)
            or name in known
            or name in OTHER_VARIABLES | GIVEN_VARIABLES
        ):
            continue
        if owner_of(name, plugins) is not None:
            continue
        if not name.startswith(PLUGINS_PREFIX):
            names = (each.removeprefix(PREFIX) for each in known | OTHER_VARIABLES)
            rest = nearest(name.removeprefix(PREFIX), names)
            near = f"{PREFIX}{rest}" if rest else ""
        else:
            near = _nearest_of_plugins(name, plugins)
            if not near:
                warnings.append(Problem("has no effect: no enabled plugin takes it", f"${name}"))
                continue
        errors.append(
            Problem(f"unknown variable{did_you_mean(near, '${}')}", f"${name}", nearest=near)
        )
    return errors, warnings


def owner_of(variable: str, plugins: Iterable[str]) -> str | None:
    """The plugin whose setting a variable would be: of several, the one with the longest name."""
    fitting = [
        plugin
        for plugin in plugins
        if len(variable) > len(head := variable_of(f"plugins.{plugin}", ""))
        and variable.startswith(head)
    ]
    return max(fitting, key=len) if fitting else None


def _nearest_of_plugins(variable: str, plugins: list[str]) -> str:
    """What ``variable`` may have meant: the list of plugins, or the setting of one of them."""
    rest = variable.removeprefix(PLUGINS_PREFIX)
    if nearest(rest, ["ENABLED"]):
        return f"{PLUGINS_PREFIX}ENABLED"
    for plugin in plugins:
        head = variable_of(f"plugins.{plugin}", "").removeprefix(PLUGINS_PREFIX)
        # A letter more or less in the plugin's name is still near.
        for length in (len(head), len(head) - 1, len(head) + 1):
            begin, field = rest[:length], rest[length:]
            if begin.endswith("_") and field and nearest(begin, [head]):
                return f"{PLUGINS_PREFIX}{head}{field}"
    return ""


def _read_list(kind: Any, text: str) -> Any:
    items = [each for each in get_args(kind) if each is not Ellipsis]
    if text.lstrip().startswith("[") and any(_is_table(each) for each in items):
        return _read_toml(text)
    item = items[0] if items else str
    return [read_text(item, each.strip()) for each in text.split(",") if each.strip()]


def _read_toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _is_table(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return nested_fields(kind) is not None or (
        isinstance(origin, type) and issubclass(origin, Mapping)
    )


def _of_literals(kinds: list[Any]) -> list[type[int]]:
    """Literals of numbers (``Literal[1, 3]``) are read as numbers."""
    values = [value for kind in kinds for value in get_args(kind)]
    return [int] if values and all(type(value) is int for value in values) else []
