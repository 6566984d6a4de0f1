"""What ``constellation config check`` looks at beyond the settings' own rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from constellation_core.config.loading import Loaded
from constellation_core.config.plugin_tables import PluginTable, validate_plugin_table
from constellation_core.config.problems import ConfigError, Problem, did_you_mean, nearest
from constellation_core.config.secrets import ClusterKey, SecretError, read_secret_file


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        problems: what keeps the agent, or one of its plugins, from working.
        warnings: what is allowed and yet likely a mistake.
        plugins: the validated tables of the plugins that are right.
        fingerprint: of the cluster key; ``""`` when it cannot be used or is not needed.
    """

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    plugins: Mapping[str, PluginTable]
    fingerprint: str


def check_config(
    loaded: Loaded,
    models: Mapping[str, type[BaseModel] | None],
    failures: Mapping[str, str] | None = None,
    installed: Iterable[str] = (),
) -> Checked:
    """Look at the tables of plugins and at the files that the settings name.

    Args:
        loaded: the core's settings.
        models: by enabled plugin, its config model; ``None`` for one that takes no settings.
        failures: by enabled plugin that could not be loaded, why; it needs no model.
        installed: names of all installed plugins, for advice.
    """
    problems: list[Problem] = []
    failures = failures or {}
    installed = set(installed)
    tables = {}
    for name in loaded.settings.plugins.enabled:
        if name in failures:
            near = "" if name in installed else nearest(name, installed)
            message = f"plugin {name}: {failures[name]}{did_you_mean(near)}"
            problems.append(_at(loaded, "plugins.enabled", message))
            continue
        try:
            tables[name] = validate_plugin_table(name, models.get(name), loaded)
        except ConfigError as error:
            problems += error.problems
    fingerprint = ""
    if loaded.settings.gossip.encryption:
        try:
            fingerprint = ClusterKey.read(loaded.settings.gossip.key_file).fingerprint()
        except SecretError as error:
            problems.append(_at(loaded, "gossip.key_file", str(error)))
    problems += _files(loaded)
    return Checked(tuple(problems), loaded.warnings, tables, fingerprint)


def _files(loaded: Loaded) -> Iterable[Problem]:
    services, token = loaded.settings.agent.services, loaded.settings.api.token_file
    if services is not None and not services.is_file():
        reason = "is a folder" if services.is_dir() else "there is no such file"
        yield _at(loaded, "agent.services", f"{services}: {reason}")
    if token is not None:
        yield from _secret(loaded, "api.token_file", token)


def _secret(loaded: Loaded, key: str, path: Path) -> Iterable[Problem]:
    try:
        read_secret_file(path)
    except SecretError as error:
        yield _at(loaded, key, str(error))


def _at(loaded: Loaded, key: str, message: str) -> Problem:
    origin = loaded.origins.get(key)
    if origin is None:
        return Problem(message, loaded.sources.name, key=key)
    place = loaded.sources.places.get(tuple(key.split(".")))
    column = place.column if place and origin.line is not None else None
    return Problem(message, origin.source, origin.line, column, key)
