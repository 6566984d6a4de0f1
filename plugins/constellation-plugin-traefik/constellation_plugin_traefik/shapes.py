"""What routes share when they differ only in what they answer to.

Most routes of a fleet look alike: the same check, port name, middlewares and entry points.
What follows from these is worked out once for each combination, not once for each service.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from constellation_core.model.port import Port, find_port
from constellation_core.model.published import PublishedService
from constellation_core.model.route import TLS, Route, TCPRoute
from constellation_plugin_traefik.balancing import health_check, sticky_cookie
from constellation_plugin_traefik.encoding import to_json
from constellation_plugin_traefik.matching import DEFAULT_OPTIONS, certificate_name
from constellation_plugin_traefik.naming import digits
from constellation_plugin_traefik.problems import Kind, RouteError
from constellation_plugin_traefik.references import References

MOST_REMEMBERED = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A router and its Traefik service, but for names, rule, priority and servers.

    Attributes:
        kind: ``http`` or ``tcp``.
        before: the router's JSON members whose names come before ``priority``, with a comma.
        after: those that come after ``service``, with a comma before.
        entry_points: JSON of the entry points; ``""`` for Traefik's default ones.
        port: name of the service's port.
        opening: the JSON of a server up to its address.
        head: the Traefik service's JSON up to its servers.
        tail: and from there on.
        digits: of the Traefik service's name.
        claim: kind and whether over TLS, for comparing what routers answer to.
        backend: all that makes the Traefik service.
        note: a warning for the operator, or ``""``.
    """

    kind: Kind
    before: str
    after: str
    entry_points: str
    port: str
    opening: str
    head: str
    tail: str
    digits: str
    claim: str
    backend: str
    note: str = ""
    tls_options: str | None = None
    """Name of the TLS options of an HTTP route over TLS, ``default`` when it names none."""


def share_entry_point(one: Shape, other: Shape) -> bool:
    """Whether two routers may be on the same entry point."""
    if not one.entry_points or not other.entry_points:
        return True  # The default ones may be any.
    # Both are JSON lists of names without quotes or commas in them.
    names = set(one.entry_points[1:-1].split(","))
    return not names.isdisjoint(other.entry_points[1:-1].split(","))


class Shapes:
    """Works out shapes, and remembers those of HTTP routes."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._known: dict[Hashable, Shape] = {}

    def of_http(self, definition: PublishedService, route: Route) -> Shape:
        """The shape of an HTTP route.

        Raises:
            RouteError: when the route cannot be used.
        """
        ports, check = definition.ports, definition.check
        # All that the shape depends on, in plain values: they hash fast.
        key = (
            route.scheme,
            route.port,
            route.entry_points,
            route.middlewares,
            route.tls,
            route.sticky,
            route.pass_host_header,
            (ports[0].name, ports[0].protocol) if len(ports) == 1 else ports,
            (check.path, check.port, check.interval, check.timeout, check.statuses, check.scheme)
            if check is not None and route.balance_check
            else None,
        )
        shape = self._known.get(key)
        if shape is None:
            shape = self._make_http(definition, route)
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = shape
        return shape

    def of_tcp(self, definition: PublishedService, route: TCPRoute) -> Shape:
        """The shape of a TCP route.

        Raises:
            RouteError: when the route cannot be used.
        """
        references = self._references
        entry_points = references.entry_points(route.entry_points)
        before = _before(entry_points, references.plain_tcp_middlewares)
        after = "" if route.tls is None else f',"tls":{self._tcp_tls(route.tls)}'
        port = _tcp_port(definition, route)
        head = '{"loadBalancer":{"servers":['
        tail = f"]{_member('serversTransport', references.tcp_transport)}}}}}"
        backend = f"tcp {port.name} {head}{tail}"
        return Shape(
            kind="tcp",
            before=before,
            after=after,
            entry_points=entry_points,
            port=port.name,
            opening='{"address":"',
            head=head,
            tail=tail,
            digits=digits(backend),
            claim="tcp" if route.tls is None else "tcp over TLS",
            backend=backend,
        )

    def _make_http(self, definition: PublishedService, route: Route) -> Shape:
        references = self._references
        entry_points = references.entry_points(
            route.entry_points or references.config.default_entry_points
        )
        before = _before(entry_points, references.http_middlewares(route.middlewares))
        after = "" if route.tls is None else f',"tls":{{{self._tls(route.tls)}}}'
        port = _tcp_port(definition, route)
        check, note = health_check(definition, route, port)
        sticky = "" if route.sticky is None else sticky_cookie(route.sticky)
        members = [f'"healthCheck":{check}'] if check else []
        if not route.pass_host_header:
            members.append('"passHostHeader":false')
        head = f'{{"loadBalancer":{{{",".join([*members, _SERVERS])}'
        transport = _member("serversTransport", references.http_transport)
        tail = f"]{transport}{_member('sticky', sticky)}}}}}"
        backend = f"{route.scheme} {port.name} {head}{tail}"
        return Shape(
            kind="http",
            before=before,
            after=after,
            entry_points=entry_points,
            port=port.name,
            opening=f'{{"url":"{route.scheme}://',
            head=head,
            tail=tail,
            digits=digits(backend),
            claim="http" if route.tls is None else "http over TLS",
            backend=backend,
            note=note,
            tls_options=None if route.tls is None else route.tls.options or DEFAULT_OPTIONS,
        )

    def _tcp_tls(self, tls: TLS) -> str:
        if not tls.passthrough:
            return f"{{{self._tls(tls)}}}"
        if tls.resolver or tls.options or tls.domains:
            raise RouteError(
                "with tls passthrough Traefik has no use for a resolver, options or domains"
            )
        return '{"passthrough":true}'

    def _tls(self, tls: TLS) -> str:
        members = []
        if tls.resolver is not None:
            members.append(f'"certResolver":{to_json(self._references.resolver(tls.resolver))}')
        if tls.domains:
            main, *others = dict.fromkeys(certificate_name(domain) for domain in tls.domains)
            domain: dict[str, object] = {"main": main, "sans": others} if others else {"main": main}
            members.append(f'"domains":{to_json([domain])}')
        if tls.options is not None:
            members.append(f'"options":{to_json(self._references.tls_options(tls.options))}')
        return ",".join(members)


_SERVERS = '"servers":['


def _member(name: str, value: str) -> str:
    return f',"{name}":{value}' if value else ""


def _before(entry_points: str, middlewares: str) -> str:
    first = f'"entryPoints":{entry_points},' if entry_points else ""
    return f'{first}"middlewares":{middlewares},' if middlewares else first


def _tcp_port(definition: PublishedService, route: Route | TCPRoute) -> Port:
    port = find_port(definition.ports, route.port)
    if port.protocol != "tcp":
        raise RouteError(f"port {port.name!r} is a UDP port")
    return port
