"""From agent.toml and the environment to settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from constellation_core.config.annotations import keys_of
from constellation_core.config.environment import unknown_variables
from constellation_core.config.explain import explain, unknown_key
from constellation_core.config.layers import Origin, Sources, Table, put_together
from constellation_core.config.lookup import find_config, parse, read_text
from constellation_core.config.positions import scan
from constellation_core.config.problems import ConfigError, Problem, did_you_mean, nearest
from constellation_core.config.settings import SECTIONS, AgentSettings, PluginsSettings, Settings
from constellation_core.config.values import Folders


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where they came from.

    Attributes:
        settings: what the agent runs with.
        path: the file they were read from.
        origins: by dotted key, for every value that is no default.
        warnings: what is allowed and yet likely a mistake.
        sources: what was read, for the tables of plugins.
        folders: what relative paths were resolved against.
    """

    settings: Settings
    path: Path
    origins: Mapping[str, Origin]
    warnings: tuple[Problem, ...]
    sources: Sources = field(repr=False)
    folders: Folders


def load(option: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Find, read and check the settings.

    The tables of plugins are not looked into: that takes the plugins' own models, see
    :func:`constellation_core.config.plugin_tables.validate_plugin_table`.

    Args:
        option: the file that ``--config`` names.
        environ: the environment; by default the process's own.

    Raises:
        ConfigError: with everything that is wrong.
    """
    environ = dict(os.environ if environ is None else environ)
    path = find_config(option, environ)
    text = read_text(path)
    document = parse(text, path)
    sources = Sources(str(path), document, scan(text), environ)
    problems = _unknown_sections(sources)
    tables = {name: _table(name, model, sources, problems) for name, model in SECTIONS.items()}

    folder = path.absolute().parent
    folders = _folders(folder, AgentSettings(name="default"))
    sections: dict[str, Any] = {}
    for name, table in tables.items():
        try:
            sections[name] = table.model.model_validate(dict(table.values), context=folders)
        except ValidationError as error:
            problems += explain(error, table)
            continue
        if isinstance(sections[name], AgentSettings):
            folders = _folders(folder, sections[name])

    plugins = sections.get("plugins")
    names = _plugin_names(plugins, tables["plugins"])
    errors, warnings = unknown_variables(environ, names)
    problems += errors + _not_text(environ)
    if problems:
        raise ConfigError(_in_order(problems, sources.name))
    settings = Settings(**sections)
    return Loaded(
        settings=settings,
        path=path,
        origins={
            f"{table.name}.{key}": origin
            for table in tables.values()
            for key, origin in table.origins.items()
            if key != "tables"
        },
        warnings=(*warnings, *_doubtful(settings, sources)),
        sources=sources,
        folders=folders,
    )


def _table(name: str, model: type[BaseModel], sources: Sources, problems: list[Problem]) -> Table:
    written = sources.document.get(name, {})
    if not isinstance(written, dict):
        place = sources.places[(name,)]
        problems.append(
            Problem(
                f"expected a table [{name}]",
                sources.name,
                place.line,
                place.column,
                name,
                expected="a table",
            )
        )
        written = {}
    if model is not PluginsSettings:
        return put_together((name,), model, written, sources)
    own = {key: value for key, value in written.items() if key == "enabled"}
    own["tables"] = {
        key: value for key, value in written.items() if key != "enabled" and isinstance(value, dict)
    }
    table = put_together((name,), model, own, sources)
    problems += [
        unknown_key(table, key) for key in written if key != "enabled" and key not in own["tables"]
    ]
    return table


def _unknown_sections(sources: Sources) -> list[Problem]:
    problems = []
    for key, value in sources.document.items():
        if key in SECTIONS:
            continue
        place = sources.places[(key,)]
        near = nearest(key, SECTIONS)
        if isinstance(value, dict):
            message = f"unknown section{did_you_mean(near, '[{}]')}"
        else:
            homes = [f"[{name}]" for name, model in SECTIONS.items() if key in keys_of(model)]
            hint = f"; it belongs under {' or '.join(homes)}" if homes else ""
            message = f"{key!r} stands outside of any section{hint}"
        problem = Problem(
            message,
            sources.name,
            place.line,
            place.column,
            key if isinstance(value, dict) else "",
            nearest=near,
        )
        problems.append(problem)
    return problems


def _folders(folder: Path, agent: AgentSettings) -> Folders:
    return Folders(folder, folder / agent.data_dir, folder / agent.secrets_path)


def _plugin_names(plugins: PluginsSettings | None, table: Table) -> list[str]:
    """Names of the plugins that are enabled or have a table, as far as they can be told."""
    if plugins is not None:
        return [*plugins.enabled, *plugins.tables]
    enabled = table.values.get("enabled")
    listed = (
        [name for name in enabled if isinstance(name, str)] if isinstance(enabled, list) else []
    )
    return [*listed, *table.values["tables"]]


def _not_text(environ: Mapping[str, str]) -> list[Problem]:
    """Variables of ours that hold bytes which are no text; nothing could print them."""
    problems = []
    for name, value in sorted(environ.items()):
        if name.startswith("CONSTELLATION_") and any(
            "\ud800" <= each <= "\udfff" for each in value
        ):
            problems.append(Problem("is not UTF-8 text", f"${name}"))
    return problems


def _doubtful(settings: Settings, sources: Sources) -> list[Problem]:
    warnings = []
    enabled = settings.plugins.enabled
    for name in settings.plugins.tables:
        if name in enabled:
            continue
        free = [each for each in enabled if each not in settings.plugins.tables]
        near = nearest(name, free)
        place = sources.places[("plugins", name)]
        message = f"has no effect: this plugin is not enabled{did_you_mean(near, '[plugins.{}]')}"
        key = f"plugins.{name}"
        warnings.append(
            Problem(message, sources.name, place.line, place.column, key, nearest=near, table=key)
        )
    if not settings.gossip.encryption and not settings.gossip.bind.is_loopback:
        message = (
            f"anyone who reaches {settings.gossip.bind} can speak for any node, and without a key "
            "there is no consensus"
        )
        warnings.append(Problem(message, sources.name, key="gossip.encryption"))
    if settings.api.control and not settings.api.bind.is_loopback:
        message = f"the token crosses the network unencrypted: bind is {settings.api.bind}"
        warnings.append(Problem(message, sources.name, key="api.control"))
    return warnings


def _in_order(problems: list[Problem], name: str) -> list[Problem]:
    """The file's first, by line, then the environment's."""
    return sorted(problems, key=lambda each: (each.source != name, each.line or 0, each.source))
