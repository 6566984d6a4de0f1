"""The part of a service's definition that every node needs, and its wire form.

Routes and the HTTP check travel, so that any node can configure a proxy. The command, the
environment, headers of the check and all else that may hold a secret stays on the node
that runs the service.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, replace
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.check import HTTPCheck
from constellation_core.model.names import Label
from constellation_core.model.port import Port, check_ports
from constellation_core.model.route import AnyRoute
from constellation_core.model.service import Service
from constellation_core.model.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class PublishedService:
    """What the fleet knows of a service's definition.

    Attributes:
        name: the service's name.
        ports: its ports as defined: a dynamic one has the number 0 here; the real number
            stands in each :class:`~constellation_core.model.instance.Instance`.
        routes: as in the definition, with ``{domain}`` filled in by the owner, if it has one.
        check: its check, if that is an HTTP check, without headers.
    """

    name: Label
    _: KW_ONLY
    ports: Annotated[tuple[Port, ...], Field(max_length=64)] = ()
    routes: Annotated[tuple[AnyRoute, ...], Field(max_length=64)] = ()
    check: HTTPCheck | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_ports(self.ports, self.routes, self.check)
        return self

    @classmethod
    def of(cls, service: Service, *, domain: str) -> PublishedService:
        """The public part of ``service``, with ``{domain}`` replaced by ``domain``.

        Without a domain ``{domain}`` stays, for the proxy's plugin to name the route that lacks
        it: with nothing in its place ``www.{domain}`` would be a name that nobody meant.

        Raises:
            ValueError: when a name becomes too long.
        """
        check = service.check if isinstance(service.check, HTTPCheck) else None
        wire = cls(
            service.name,
            # Where a port is published on its node, others learn from the instance.
            ports=tuple(replace(port, host=0, publish="node") for port in service.ports),
            routes=service.routes,
            check=replace(check, headers={}) if check else None,
        ).to_wire()
        if domain:
            for route in wire.get("routes", ()):
                _fill_domain(route, domain)
        return cls.from_wire(wire)

    @cached_property
    def version(self) -> str:
        """A short hash of the content: equal definitions have equal versions."""
        text = json.dumps(self.to_wire(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def to_wire(self) -> dict[str, Any]:
        """Plain maps, lists, strings and numbers; defaults are left out."""
        wire: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", exclude_defaults=True)
        for route, value in zip(wire.get("routes", ()), self.routes, strict=False):
            route["kind"] = value.kind
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> PublishedService:
        """The inverse of :meth:`to_wire`, for what comes from the network.

        Raises:
            ValueError: when anything in it would not be accepted in a definition.
        """
        return _ADAPTER.validate_python(wire)


_ADAPTER: TypeAdapter[PublishedService] = TypeAdapter(PublishedService)


def _fill_domain(wire: dict[str, Any], domain: str) -> None:
    for key, value in wire.items():
        if isinstance(value, str):
            wire[key] = value.replace("{domain}", domain)
        elif isinstance(value, list):
            wire[key] = [
                each.replace("{domain}", domain) if isinstance(each, str) else each
                for each in value
            ]
        elif isinstance(value, dict):
            _fill_domain(value, domain)
