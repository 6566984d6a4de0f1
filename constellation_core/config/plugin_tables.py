"""Checks ``[plugins.NAME]`` tables with the models of the plugins themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from constellation_core.config.annotations import keys_of
from constellation_core.config.environment import owner_of, variable_of
from constellation_core.config.explain import explain
from constellation_core.config.layers import Origin, Table, put_together
from constellation_core.config.loading import Loaded
from constellation_core.config.problems import ConfigError, Problem, did_you_mean, nearest
from constellation_core.config.values import thaw


@dataclass(frozen=True, slots=True)
class PluginTable:
    """The validated table of one plugin.

    Attributes:
        config: an instance of the plugin's model; ``None`` where it has none.
        origins: by dotted key (``plugins.NAME.FIELD``), for every value that is no default.
    """

    config: Any
    origins: Mapping[str, Origin]


def validate_plugin_table(name: str, model: type[BaseModel] | None, loaded: Loaded) -> PluginTable:
    """Validate the table of the plugin called ``name``, with the environment laid over it.

    Fields of the core's path types (:mod:`constellation_core.config.values`) are resolved as
    the core's own are.

    Args:
        name: the plugin's name.
        model: what its ``config_model`` hook gave; ``None`` when it takes no settings.
        loaded: the core's settings.

    Raises:
        ConfigError: with everything that is wrong with this table.
    """
    path = ("plugins", name)
    written = thaw(loaded.settings.plugins.tables.get(name, {}))
    problems = _unknown_variables(name, model, loaded)
    if model is None:
        if written:
            place = loaded.sources.places[path]
            message = "this plugin takes no settings; remove the table"
            table_name = ".".join(path)
            problems.append(
                Problem(
                    message,
                    loaded.sources.name,
                    place.line,
                    place.column,
                    table_name,
                    table=table_name,
                )
            )
        if problems:
            raise ConfigError(problems)
        return PluginTable(None, {})
    table = put_together(path, model, written, loaded.sources)
    config = None
    try:
        config = model.model_validate(dict(table.values), context=loaded.folders)
    except ValidationError as error:
        problems += explain(error, table)
    except Exception as error:  # noqa: BLE001  a plugin's validator may raise whatever it likes
        problems.append(_broken_model(table, error))
    if problems:
        raise ConfigError(problems)
    return PluginTable(
        config, {f"{table.name}.{key}": origin for key, origin in table.origins.items()}
    )


def _broken_model(table: Table, error: Exception) -> Problem:
    # Its text is left out: what a validator says may hold what it was given.
    message = f"the plugin's own check of its settings failed with {type(error).__name__}"
    place = table.sources.places.get(table.path)
    line, column = (place.line, place.column) if place else (None, None)
    return Problem(message, table.sources.name, line, column, table.name, table=table.name)


def _unknown_variables(name: str, model: type[BaseModel] | None, loaded: Loaded) -> list[Problem]:
    """Variables that begin like this plugin's and are none of its fields."""
    plugins = {*loaded.settings.plugins.enabled, *loaded.settings.plugins.tables, name}
    known = [variable_of(f"plugins.{name}", key) for key in (keys_of(model) if model else ())]
    problems = []
    for variable in sorted(loaded.sources.environ):
        if variable in known or owner_of(variable, plugins) != name:
            continue
        head = variable_of(f"plugins.{name}", "")
        rest = nearest(variable.removeprefix(head), (each.removeprefix(head) for each in known))
        near = f"{head}{rest}" if rest else ""
        message = f"unknown variable{did_you_mean(near, '${}')}"
        if model is None:
            message = f"the plugin {name!r} takes no settings; unset it"
        problems.append(Problem(message, f"${variable}", nearest=near))
    return problems
