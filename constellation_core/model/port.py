"""Ports of a service, and how routes and checks refer to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from constellation_core.model.check import AnyCheck, ExecCheck, HTTPCheck, PortRef, TCPCheck
from constellation_core.model.names import Label
from constellation_core.model.route import AnyRoute
from constellation_core.model.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class Port:
    """A port that the service listens on.

    Attributes:
        name: how routes and checks speak of it, and the name of the variable that tells the
            service: ``http`` becomes ``PORT_HTTP``; the first port is ``PORT`` too.
        number: fixed number; 0 lets the driver choose a free one at the first start.
        protocol: ``tcp`` or ``udp``.
    """

    name: Label
    number: Annotated[int, Field(ge=0, le=65_535)] = 0
    _: KW_ONLY
    protocol: Literal["tcp", "udp"] = "tcp"


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
    raise ValueError(f"{user} uses port {ref!r}; there is only {known}")


def check_ports(ports: Sequence[Port], routes: Iterable[AnyRoute], check: AnyCheck | None) -> None:
    """Refuse ports that clash, and routes or checks that use a port that is not there.

    Raises:
        ValueError: naming what is wrong.
    """
    names = [port.name for port in ports]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two ports are named {name!r}")
    fixed = [(port.number, port.protocol) for port in ports if port.number]
    for number, protocol in fixed:
        if fixed.count((number, protocol)) > 1:
            raise ValueError(f"two {protocol} ports have the number {number}")
    for route in routes:
        find_port(ports, route.port, f"the {route.kind} route")
    if isinstance(check, HTTPCheck | TCPCheck):
        find_port(ports, check.port, f"the {check.kind} check")
    if isinstance(check, ExecCheck) and not check.command[0]:
        raise ValueError("the exec check has an empty command")
