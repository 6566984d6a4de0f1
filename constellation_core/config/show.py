"""Rows for ``constellation config show``: every value, where it came from, and no secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from constellation_core.config.annotations import holds_secret, key_of, keys_of
from constellation_core.config.explain import MASK
from constellation_core.config.layers import DEFAULT, Origin
from constellation_core.config.loading import Loaded
from constellation_core.config.plugin_tables import PluginTable
from constellation_core.config.settings import SECTIONS

HIDDEN = "(not shown)"
"""Stands for the values of a table whose model is not known: any of them may be a secret."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting.

    Attributes:
        key: dotted, such as ``gossip.bind``.
        value: what JSON can hold; masked where it is a secret.
        origin: ``default``, ``agent.toml:12`` or ``$CONSTELLATION_GOSSIP_BIND``.
        secret: whether the value is masked.
    """

    key: str
    value: Any
    origin: str
    secret: bool


def rows(loaded: Loaded, plugins: Mapping[str, PluginTable]) -> list[Row]:
    """All settings in the order of the sections, those of plugins last.

    Args:
        loaded: the core's settings.
        plugins: validated tables by plugin. The keys of all other tables are told, their
            values are not.
    """
    result = []
    for section in SECTIONS:
        values = getattr(loaded.settings, section)
        result += list(_of_model(section, values, loaded.origins))
    for name, table in plugins.items():
        if isinstance(table.config, BaseModel):
            result += list(_of_model(f"plugins.{name}", table.config, table.origins))
    for name, written in loaded.settings.plugins.tables.items():
        if name in plugins:
            continue
        for key in written:
            place = loaded.sources.places.get(("plugins", name, key))
            origin = Origin(loaded.sources.name, place.line if place else None)
            result.append(Row(f"plugins.{name}.{key}", HIDDEN, str(origin), True))
    return result


def _of_model(prefix: str, values: BaseModel, origins: Mapping[str, Origin]) -> Iterator[Row]:
    for name, field in type(values).model_fields.items():
        key = key_of(name, field)
        if key not in keys_of(type(values)):
            continue
        dotted = f"{prefix}.{key}"
        value = getattr(values, name)
        secret = holds_secret(field.annotation)
        shown = _masked(value) if secret else _plain(value)
        yield Row(dotted, shown, str(origins.get(dotted, DEFAULT)), secret)


def _masked(value: Any) -> Any:
    """A secret that is not set is told as such; of all others not even the form is shown."""
    return None if value is None else MASK


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return str(value)
