"""Ports of a service, and how routes and checks refer to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.check import AnyCheck, ExecCheck, HTTPCheck, PortRef, TCPCheck
from constellation_core.model.names import Label
from constellation_core.model.route import AnyRoute
from constellation_core.model.strict import STRICT
from constellation_core.model.words import did_you_mean, nearest


@dataclass(frozen=True, config=STRICT)
class Port:
    """A port that the service listens on.

    Attributes:
        name: how routes and checks speak of it, and the name of the variable that tells the
            service: ``http`` becomes ``PORT_HTTP``; the first port is ``PORT`` too.
        number: fixed number; 0 lets the driver choose a free one at the first start. In a
            container this is the port inside of it.
        protocol: ``tcp`` or ``udp``.
        host: containers only: the fixed port of the node under which it is reached; 0 lets the
            driver choose a free one. Without need of one leave it 0: two instances with the same
            fixed port cannot run on one node, not even for the moment of an update.
        publish: containers only: where on the node it is reached. ``node``: at the address that
            the other nodes know; ``all``: at every address of the node, also those that face the
            Internet; ``none``: only within its networks on the same node.
    """

    name: Label
    number: Annotated[int, Field(ge=0, le=65_535)] = 0
    _: KW_ONLY
    protocol: Literal["tcp", "udp"] = "tcp"
    host: Annotated[int, Field(ge=0, le=65_535)] = 0
    publish: Literal["node", "all", "none"] = "node"

    @model_validator(mode="after")
    def _is_published_where_it_is_fixed(self) -> Self:
        if self.host and self.publish == "none":
            raise ValueError(
                f"port {self.name!r}: host={self.host} has no effect with publish='none'"
            )
        return self


def find_port(ports: Sequence[Port], ref: PortRef | None, user: str = "a caller") -> Port:
    """The port with this name or number, or the first one when ``ref`` is ``None``.

    Raises:
        ValueError: when there is no such port; the message names ``user`` and what there is.
    """
    if not ports:
        raise ValueError(f"{user} needs a port; add ports=[Port('http')]")
    if ref is None:
        return ports[0]
    for port in ports:
        if ref == port.name or (port.number and ref == port.number):
            return port
    known = ", ".join(f"{port.name!r} ({port.number or 'dynamic'})" for port in ports)
    near = nearest(ref, (port.name for port in ports)) if isinstance(ref, str) else ""
    raise ValueError(f"{user} uses port {ref!r}; there is only {known}{did_you_mean(near)}")


def implied_ports(routes: Iterable[AnyRoute], check: AnyCheck | None) -> tuple[Port, ...]:
    """The ports that routes and check name by number, for a service that lists none."""
    refs = [route.port for route in routes]
    if isinstance(check, HTTPCheck | TCPCheck):
        refs.append(check.port)
    numbers = dict.fromkeys(ref for ref in refs if isinstance(ref, int))
    return tuple(Port(f"p{number}", number) for number in numbers)


def check_ports(ports: Sequence[Port], routes: Iterable[AnyRoute], check: AnyCheck | None) -> None:
    """Refuse ports that clash, and routes or checks that use a port that is not there.

    Raises:
        ValueError: naming what is wrong.
    """
    names = [port.name for port in ports]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two ports are named {name!r}")
    for what in ("number", "host"):
        fixed = [(getattr(port, what), port.protocol) for port in ports if getattr(port, what)]
        for number, protocol in fixed:
            if fixed.count((number, protocol)) > 1:
                raise ValueError(f"two {protocol} ports have the {what} {number}")
    for route in routes:
        find_port(ports, route.port, f"the {route.kind} route")
    if isinstance(check, HTTPCheck | TCPCheck):
        find_port(ports, check.port, f"the {check.kind} check")
    if isinstance(check, ExecCheck) and not check.command[0]:
        raise ValueError("the exec check has an empty command")
