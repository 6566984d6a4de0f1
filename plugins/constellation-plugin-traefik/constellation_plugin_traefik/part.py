"""One service's part of the document: compiled from its definition, filled with its instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from constellation_core.model.instance import Instance
from constellation_core.model.published import PublishedService
from constellation_core.model.route import Route, TCPRoute
from constellation_plugin_traefik.encoding import to_json
from constellation_plugin_traefik.matching import http_rule, sni_rule
from constellation_plugin_traefik.naming import digits, object_name
from constellation_plugin_traefik.problems import Problem, RouteError
from constellation_plugin_traefik.servers import Addresses, server_list, weights_of
from constellation_plugin_traefik.shapes import Shape, Shapes

NOTHING: Mapping[str, str] = MappingProxyType({})


class Claim(NamedTuple):
    """What a router answers to; two services with overlapping claims get in each other's way.

    Attributes:
        key: kind, whether over TLS, priority, and the rule.
        rule: the rule alone.
        shape: of the router.
        route: the route's number in its definition.
    """

    key: str
    rule: str
    shape: Shape
    route: int


@dataclass(slots=True)
class ServicePart:
    """What the document has of one service: JSON members ``"name":{...}`` by name.

    The routers follow from the definition alone; :func:`fill` adds the Traefik services.

    Attributes:
        definition: what it was compiled from.
        backends: the shapes of its Traefik services, by their names.
        claims: what the routers answer to.
        problems: routes that were left out, or that need a look.
    """

    definition: PublishedService
    http_routers: Mapping[str, str]
    tcp_routers: Mapping[str, str]
    backends: Mapping[str, Shape]
    claims: Sequence[Claim]
    problems: Sequence[Problem]
    http_services: Mapping[str, str]
    tcp_services: Mapping[str, str]


def empty_part(definition: PublishedService) -> ServicePart:
    """The part of a service without routes."""
    return ServicePart(definition, NOTHING, NOTHING, {}, (), (), NOTHING, NOTHING)


def compile_part(definition: PublishedService, shapes: Shapes) -> ServicePart:
    """Make the routers of a definition; a route that cannot be used costs only itself."""
    # With `fill` the inner loop of a build from nothing: written for few calls.
    if len(definition.routes) == 1 and (part := _compile_one(definition, shapes)) is not None:
        return part
    name = definition.name
    http: dict[str, str] = {}
    tcp: dict[str, str] = {}
    backends: dict[str, Shape] = {}
    claims: list[Claim] = []
    problems: list[Problem] = []
    for number, route in enumerate(definition.routes, 1):
        rule = ""
        try:
            if isinstance(route, Route):
                rule, rule_json, rank = http_rule(route)
                shape, routers = shapes.of_http(definition, route), http
            else:
                rule, rule_json, rank = sni_rule(route)
                shape, routers = shapes.of_tcp(definition, route), tcp
            priority = rank if route.priority is None else route.priority
            key = f"{shape.claim} {priority} {rule}"
            if claims:
                _refuse_repetition(claims, key, shape)
        except RouteError as error:
            problems.append(_error(definition, number, route, rule, error))
            continue
        service = f"{name}-{shape.digits}"
        if backends and backends.get(service, shape) is not shape:
            service = _backend(name, shape, backends)
        backends[service] = shape
        router = object_name(name, f"{shape.entry_points} {key}", routers)
        ranked = "" if priority is None else f'"priority":{priority},'
        routers[router] = (
            f'"{router}":{{{shape.before}{ranked}"rule":{rule_json},'
            f'"service":"{service}"{shape.after}}}'
        )
        claims.append(Claim(key, rule, shape, number))
        if shape.note:
            problems.append(Problem("warning", name, number, shape.kind, rule, shape.note))
    return ServicePart(
        definition, http, tcp or NOTHING, backends, claims, problems, NOTHING, NOTHING
    )


def _compile_one(definition: PublishedService, shapes: Shapes) -> ServicePart | None:
    """As :func:`compile_part`, for the usual service: one route, HTTP, nothing wrong with it."""
    route = definition.routes[0]
    if not isinstance(route, Route) or route.priority is not None:
        return None
    try:
        rule, rule_json, rank = http_rule(route)
        shape = shapes.of_http(definition, route)
    except RouteError:
        return None
    if rank is not None or shape.note:
        return None
    name = definition.name
    key = f"{shape.claim} None {rule}"
    router = f"{name}-{digits(f'{shape.entry_points} {key}')}"
    service = f"{name}-{shape.digits}"
    text = f'"{router}":{{{shape.before}"rule":{rule_json},"service":"{service}"{shape.after}}}'
    return ServicePart(
        definition,
        {router: text},
        NOTHING,
        {service: shape},
        (Claim(key, rule, shape, 1),),
        (),
        NOTHING,
        NOTHING,
    )


def fill(part: ServicePart, instances: Sequence[Instance], addresses: Addresses) -> None:
    """Make the Traefik services of a part from the instances that take traffic now.

    A service without any stays, with an empty list: Traefik then answers 503 where it would
    say 404 without the router.
    """
    http: dict[str, str] = {}
    tcp: dict[str, str] = {}
    for name, shape in part.backends.items():
        if shape.kind == "http":
            servers = server_list(instances, shape.port, shape.opening, addresses)
            http[name] = f'"{name}":{shape.head}{servers}{shape.tail}'
        else:
            _fill_tcp(tcp, part.definition.name, name, shape, instances, addresses)
    part.http_services, part.tcp_services = http, tcp or NOTHING


def _fill_tcp(
    entries: dict[str, str],
    service: str,
    name: str,
    shape: Shape,
    instances: Sequence[Instance],
    addresses: Addresses,
) -> None:
    """TCP servers have no weight: group those of equal weight, and weigh the groups."""
    groups: dict[int, list[str]] = {}
    for address, weight in weights_of(instances, shape.port, addresses).items():
        groups.setdefault(weight, []).append(f'{shape.opening}{address}"}}')
    if len(groups) < 2:
        servers = ",".join(*groups.values()) if groups else ""
        entries[name] = f'"{name}":{shape.head}{servers}{shape.tail}'
        return
    members = []
    for weight in sorted(groups):
        member = object_name(service, f"{name} {weight}", entries)
        servers = ",".join(groups[weight])
        entries[member] = f'"{member}":{shape.head}{servers}{shape.tail}'
        members.append({"name": member, "weight": weight * len(groups[weight])})
    entries[name] = f'"{name}":{to_json({"weighted": {"services": members}})}'


def _backend(service: str, shape: Shape, backends: Mapping[str, Shape]) -> str:
    """The name for a Traefik service of this shape, beside others of the same service."""
    for name, other in backends.items():
        if other.backend == shape.backend:
            return name
    return object_name(service, shape.backend, backends)


def _refuse_repetition(claims: Sequence[Claim], key: str, shape: Shape) -> None:
    for other in claims:
        if other.key == key and other.shape.entry_points == shape.entry_points:
            raise RouteError(f"it answers to the same requests as route {other.route}")


def _error(
    definition: PublishedService,
    number: int,
    route: Route | TCPRoute,
    rule: str,
    error: RouteError,
) -> Problem:
    level: Literal["error"] = "error"
    if not rule and isinstance(route, Route):
        rule = route.rule or ""
    return Problem(level, definition.name, number, route.kind, rule, str(error))
