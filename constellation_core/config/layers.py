"""One table of settings, put together from its layers, with the origin of every value.

The layers, the strongest first: ``$CONSTELLATION_<SECTION>_<KEY>``, agent.toml, the variable
that the field names as its alias (``$TS_HOSTNAME``, ``$DOMAIN`` ...), the model's default. An
alias is a name that other programs use too, so it never overrides what a file says for us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from constellation_core.config.annotations import alias_variable, keys_of
from constellation_core.config.environment import read_text, variable_of
from constellation_core.config.positions import KeyPath, Place


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    Attributes:
        source: the file as the user named it, ``$VARIABLE``, or ``""`` for a default.
        line: in the file, counted from 1.
    """

    source: str = ""
    line: int | None = None

    def __str__(self) -> str:
        """``default``, ``agent.toml:12`` or ``$CONSTELLATION_GOSSIP_BIND``."""
        if not self.source:
            return "default"
        return self.source if self.line is None else f"{self.source}:{self.line}"


DEFAULT = Origin()


@dataclass(frozen=True, slots=True)
class Sources:
    """What settings are read from.

    Attributes:
        name: the file as the user named it.
        document: its content.
        places: where in the file everything stands.
        environ: the environment as it was when the file was read.
    """

    name: str
    document: Mapping[str, Any]
    places: Mapping[KeyPath, Place]
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """One section, or one plugin's table, before validation.

    Attributes:
        path: ``("gossip",)`` or ``("plugins", "traefik")``.
        model: what validates it.
        sources: what it was read from.
        values: by key, what to validate.
        origins: by key; keys without an entry have their default.
        texts: what the variables hold, by key.
    """

    path: tuple[str, ...]
    model: type[BaseModel]
    sources: Sources
    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    texts: Mapping[str, str]

    @property
    def name(self) -> str:
        """``gossip`` or ``plugins.traefik``."""
        return ".".join(self.path)

    def origin(self, key: str) -> Origin:
        """Where the value of a key came from."""
        return self.origins.get(key, DEFAULT)


def put_together(
    path: tuple[str, ...], model: type[BaseModel], written: Mapping[str, Any], sources: Sources
) -> Table:
    """Lay the environment over what is ``written`` in the file for one table."""
    values = dict(written)
    origins = {}
    for key in written:
        place = sources.places.get((*path, key))
        origins[key] = Origin(sources.name, place.line if place else None)
    texts = {}
    name = ".".join(path)
    for key, field in keys_of(model).items():
        variable, alias = variable_of(name, key), alias_variable(field)
        if variable not in sources.environ:
            # An empty alias counts as unset: container files pass on what they do not have.
            if key in values or not sources.environ.get(alias):
                continue
            variable = alias
        texts[key] = sources.environ[variable]
        values[key] = read_text(field.annotation, texts[key])
        origins[key] = Origin(f"${variable}")
    return Table(path, model, sources, values, origins, texts)
