"""What stands in the document: servers, routers, their settings, and what is left out."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from constellation_core import Health, HTTPCheck, Instance, Port, PublishedService
from constellation_core.model.route import TLS, Route, Sticky, TCPRoute
from constellation_core.testing.catalog import FakeCatalog
from constellation_plugin_traefik.config import RETRY, RETRY_IN_FLIGHT, TRANSPORT, TraefikConfig
from constellation_plugin_traefik.document import DocumentBuilder

LOG = logging.getLogger("constellation.plugins.traefik")
HTTP = Port("http")


def service(
    name: str, *routes: Route | TCPRoute, ports: tuple[Port, ...] = (HTTP,), **settings: Any
) -> PublishedService:
    return PublishedService(name, ports=ports, routes=routes, **settings)


def instance(
    service_name: str, node: str, address: str = "10.0.0.1", number: int = 8000, **settings: Any
) -> Instance:
    ports = settings.pop("ports", {"http": number})
    health = settings.pop("health", Health.HEALTHY)
    return Instance(
        f"{service_name}.{node}", service_name, node, address, ports, health, **settings
    )


def builder(catalog: FakeCatalog, **settings: Any) -> DocumentBuilder:
    return DocumentBuilder(catalog, TraefikConfig.model_validate(settings), LOG)


def catalog_of(*things: PublishedService | Instance) -> FakeCatalog:
    catalog = FakeCatalog()
    for thing in things:
        if isinstance(thing, Instance):
            catalog.put(thing)
        else:
            catalog.publish(thing)
    return catalog


def document_of(*things: PublishedService | Instance, **settings: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(builder(catalog_of(*things), **settings).build())
    return document


def only(section: dict[str, Any]) -> Any:
    assert len(section) == 1
    return next(iter(section.values()))


def router_of(route: Route | TCPRoute, **settings: Any) -> Any:
    document = document_of(service("web", route), **settings)
    return only(document[route.kind]["routers"])


def balancer_of(*things: PublishedService | Instance, **settings: Any) -> Any:
    return only(document_of(*things, **settings)["http"]["services"])["loadBalancer"]


def problems_of(*things: PublishedService | Instance, **settings: Any) -> list[str]:
    made = builder(catalog_of(*things), **settings)
    made.build()
    return [f"{problem.level}: {problem}" for problem in made.problems]


WEB = service("web", Route("web.example.com"))


# --- servers ---


def test_the_healthy_instances_of_all_nodes_share_the_load() -> None:
    document = document_of(
        WEB,
        instance("web", "c", "10.0.0.3"),
        instance("web", "a", "10.0.0.1"),
        instance("web", "b", "10.0.0.2", 9000),
    )
    router = only(document["http"]["routers"])
    assert router["rule"] == "Host(`web.example.com`)"
    balancer = document["http"]["services"][router["service"]]["loadBalancer"]
    assert balancer["servers"] == [
        {"url": "http://10.0.0.1:8000"},
        {"url": "http://10.0.0.2:9000"},
        {"url": "http://10.0.0.3:8000"},
    ]


@pytest.mark.parametrize("health", Health)
def test_only_what_serves_gets_traffic(health: Health) -> None:
    balancer = balancer_of(WEB, instance("web", "a", health=health))
    serving = health in (Health.HEALTHY, Health.SUSPECT)
    assert balancer["servers"] == ([{"url": "http://10.0.0.1:8000"}] if serving else [])


def test_a_service_that_nobody_serves_keeps_its_router_so_that_clients_get_503_and_not_404() -> (
    None
):
    document = document_of(WEB)
    router = only(document["http"]["routers"])
    assert document["http"]["services"][router["service"]]["loadBalancer"]["servers"] == []


@pytest.mark.parametrize(
    "unusable",
    [
        {"address": "not-an-address"},
        {"address": "0.0.0.0"},
        {"address": "224.0.0.1"},
        {"address": "::"},
        {"address": "fe80::1%eth0"},
        {"address": "10.0.0.1\n"},
        {"address": "010.0.0.1"},
        {"address": ""},
        {"ports": {"other": 80}},
        {"ports": {"http": 0}},
        {"ports": {"http": 65_536}},
        {"ports": {"http": True}},
        {"weight": 0},
        {"weight": -1},
    ],
    ids=repr,
)
def test_an_instance_that_cannot_be_used_costs_only_itself(unusable: dict[str, Any]) -> None:
    balancer = balancer_of(WEB, instance("web", "a", **unusable), instance("web", "b", "10.0.0.2"))
    assert balancer["servers"] == [{"url": "http://10.0.0.2:8000"}]


def test_an_ipv6_address_stands_in_brackets() -> None:
    balancer = balancer_of(WEB, instance("web", "a", "2001:DB8:0::1"))
    assert balancer["servers"] == [{"url": "http://[2001:db8::1]:8000"}]


def test_two_instances_on_one_address_and_port_are_one_server() -> None:
    balancer = balancer_of(WEB, instance("web", "a", weight=3), instance("web", "b", weight=5))
    assert balancer["servers"] == [{"url": "http://10.0.0.1:8000", "weight": 3}]


def test_weights_are_stated_where_they_are_not_one() -> None:
    balancer = balancer_of(
        WEB, instance("web", "a", weight=3), instance("web", "b", "10.0.0.2", weight=1)
    )
    assert balancer["servers"] == [
        {"url": "http://10.0.0.1:8000", "weight": 3},
        {"url": "http://10.0.0.2:8000"},
    ]


def test_a_route_goes_to_its_port_with_its_scheme() -> None:
    grpc = service(
        "web", Route("g.example.com", port="grpc", scheme="h2c"), ports=(HTTP, Port("grpc"))
    )
    balancer = balancer_of(grpc, instance("web", "a", ports={"http": 1, "grpc": 2}))
    assert balancer["servers"] == [{"url": "h2c://10.0.0.1:2"}]


# --- balancing ---


def test_sticky_sessions() -> None:
    sticky = Sticky("who", secure=True, same_site="lax", max_age=60)
    cookie = balancer_of(service("web", Route("a.example.com", sticky=sticky)))["sticky"]["cookie"]
    assert cookie == {
        "name": "who",
        "secure": True,
        "httpOnly": True,
        "sameSite": "lax",
        "maxAge": 60,
    }


def test_a_cookie_that_no_browser_keeps_is_an_error() -> None:
    route = Route("a.example.com", sticky=Sticky(max_age=401 * 86_400))
    (problem,) = problems_of(service("web", route))
    assert problem.startswith("error: service web, http route 1 (Host(`a.example.com`)): ")
    assert "400 days" in problem


def test_the_services_own_check_is_handed_to_traefik() -> None:
    check = HTTPCheck("/health?deep=1", interval=2.5, timeout=0.5, statuses=(204, 204))
    probe = balancer_of(service("web", Route("a.example.com"), check=check))["healthCheck"]
    assert probe == {
        "path": "/health?deep=1",
        "interval": "2500ms",
        "timeout": "500ms",
        "status": 204,
    }


def test_the_check_has_its_own_scheme() -> None:
    check = HTTPCheck(scheme="https")
    probe = balancer_of(service("web", Route("a.example.com"), check=check))["healthCheck"]
    assert probe["scheme"] == "https"


def test_traefik_does_not_probe_where_it_need_not() -> None:
    two = (HTTP, Port("admin"))
    other_port = HTTPCheck(port="admin")
    assert "healthCheck" not in balancer_of(
        service("web", Route("a.example.com"), ports=two, check=other_port)
    )
    not_wanted = Route("a.example.com", balance_check=False)
    assert "healthCheck" not in balancer_of(service("web", not_wanted, check=HTTPCheck()))


@pytest.mark.parametrize(
    "check",
    [HTTPCheck(statuses=(200, 499)), HTTPCheck("//x"), HTTPCheck("/%zz"), HTTPCheck("/\x7f")],
    ids=repr,
)
def test_a_check_that_traefik_would_fail_costs_the_probe_and_is_told(check: HTTPCheck) -> None:
    web = service("web", Route("a.example.com"), check=check)
    assert "healthCheck" not in balancer_of(web)
    (problem,) = problems_of(web)
    assert problem.startswith("warning: service web")
    assert "does not probe" in problem


def test_pass_host_header_is_stated_when_it_is_off() -> None:
    assert "passHostHeader" not in balancer_of(WEB)
    route = Route("a.example.com", pass_host_header=False)
    assert balancer_of(service("web", route))["passHostHeader"] is False


# --- routers ---


@pytest.mark.parametrize(
    ("route", "rule"),
    [
        (Route("A.Example.com"), "Host(`a.example.com`)"),
        (Route(("a.x", "b.x", "a.x")), "Host(`a.x`) || Host(`b.x`)"),
        (Route(path="/api"), "PathPrefix(`/api`)"),
        (Route("a.x", path="/p"), "Host(`a.x`) && PathPrefix(`/p`)"),
        (Route(("a.x", "b.x"), path="/p"), "(Host(`a.x`) || Host(`b.x`)) && PathPrefix(`/p`)"),
        (Route("*.a.x"), r"HostRegexp(`^[A-Za-z0-9_-]+\.a\.x$`)"),
        (Route("*"), "HostRegexp(`^.+$`)"),
        (Route(rule='Header("X", "\\u00e4")'), 'Header("X", "\\u00e4")'),
    ],
    ids=repr,
)
def test_rules(route: Route, rule: str) -> None:
    assert router_of(route)["rule"] == rule


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (Route("a*b.example.com"), "no host name"),
        (Route("a.{domain}"), "no [agent] domain"),
        (Route(path="/{domain}"), "no [agent] domain"),
        (Route(rule="Host(`a.{domain}`)"), "no [agent] domain"),
        (TCPRoute(("web",), sni="a.{domain}", tls=TLS()), "no [agent] domain"),
        (Route(path="/a\x00b"), "U+0000"),
        (Route(rule="Hots(`x`)"), "unknown matcher 'Hots'"),
        (Route("a.x", entry_points=("a@b",)), "entry point"),
        (Route("a.x", middlewares=("nope",)), "[plugins.traefik.middlewares.nope]"),
        (Route("a.x", middlewares=("a b",)), "not a usable name"),
        (Route("a.x", tls=TLS(options="nope")), "[plugins.traefik.tls.options.nope]"),
        (TCPRoute(("web",), sni="a.x", tls=TLS(passthrough=True, resolver="le")), "passthrough"),
        (TCPRoute(("web",), sni="a*.x", tls=TLS()), "no host name"),
    ],
    ids=repr,
)
def test_a_route_that_traefik_would_refuse_costs_only_itself(
    route: Route | TCPRoute, reason: str
) -> None:
    good = Route("good.example.com")
    things = (service("bad", good, route), service("other", Route("other.example.com")))
    routers = document_of(*things)["http"]["routers"]
    assert {router["rule"] for router in routers.values()} == {
        "Host(`good.example.com`)",
        "Host(`other.example.com`)",
    }
    (problem,) = problems_of(*things)
    assert problem.startswith(f"error: service bad, {route.kind} route 2")
    assert reason in problem


def test_a_udp_port_has_no_routes() -> None:
    udp = service("dns", Route("a.x"), ports=(Port("dns", protocol="udp"),))
    (problem,) = problems_of(udp)
    assert "'dns' is a UDP port" in problem
    assert document_of(udp) == {}


def test_priority() -> None:
    assert router_of(Route("a.x", priority=7))["priority"] == 7
    assert "priority" not in router_of(Route("a.x"))


def test_a_wildcard_host_ranks_below_every_exact_host_of_its_domain() -> None:
    exact = len(router_of(Route("a.example.com"))["rule"])  # Traefik's default priority.
    wildcard = router_of(Route("*.example.com"))["priority"]
    anything = router_of(Route("*"))["priority"]
    assert anything < wildcard < exact


def test_entry_points() -> None:
    assert "entryPoints" not in router_of(Route("a.x"))
    assert router_of(Route("a.x"), default_entry_points=["web"])["entryPoints"] == ["web"]
    own = Route("a.x", entry_points=("b", "c", "b"))
    assert router_of(own, default_entry_points=["web"])["entryPoints"] == ["b", "c"]
    (problem,) = problems_of(service("web", own), known_entry_points=["web", "bb"])
    assert "no entry point 'b' among known_entry_points: web, bb; did you mean 'bb'?" in problem


def test_tls() -> None:
    assert router_of(Route("a.x", tls=TLS()))["tls"] == {}
    tls = TLS(resolver="le", options="modern", domains=("*.A.x", "b.x", "b.x"))
    modern = {"minVersion": "VersionTLS12"}
    document = document_of(
        service("web", Route("a.x", tls=tls)), tls={"options": {"modern": modern}}
    )
    assert only(document["http"]["routers"])["tls"] == {
        "certResolver": "le",
        "domains": [{"main": "*.a.x", "sans": ["b.x"]}],
        "options": "modern",
    }
    assert document["tls"] == {"options": {"modern": modern}}
    (problem,) = problems_of(service("web", Route("a.x", tls=tls)), known_resolvers=["acme"])
    assert "no certificate resolver 'le'" in problem


# --- TCP ---


def test_a_tcp_route() -> None:
    mongo = service("mongo", TCPRoute(("mongo",)), ports=(Port("db"),))
    one = instance("mongo", "a", ports={"db": 27017})
    document = document_of(mongo, one, instance("mongo", "b", "::1", ports={"db": 27018}))
    router = only(document["tcp"]["routers"])
    assert router["entryPoints"] == ["mongo"]
    assert router["rule"] == "HostSNI(`*`)"
    assert document["tcp"]["services"][router["service"]]["loadBalancer"] == {
        "servers": [{"address": "10.0.0.1:27017"}, {"address": "[::1]:27018"}],
        "serversTransport": TRANSPORT,
    }
    assert document["tcp"]["serversTransports"] == {TRANSPORT: {"dialTimeout": "2000ms"}}
    assert "http" not in document


def test_tcp_over_tls() -> None:
    passed = TCPRoute(("web",), sni="db.x", tls=TLS(passthrough=True))
    assert router_of(passed)["tls"] == {"passthrough": True}
    assert router_of(passed)["rule"] == "HostSNI(`db.x`)"
    ended = TCPRoute(("web",), sni="*.x", tls=TLS(resolver="le"), priority=3)
    assert router_of(ended)["tls"] == {"certResolver": "le"}
    assert router_of(ended)["rule"] == r"HostSNIRegexp(`^[A-Za-z0-9_-]+\.x$`)"
    assert router_of(ended)["priority"] == 3


def test_tcp_servers_of_different_weights_are_grouped() -> None:
    document = document_of(
        service("db", TCPRoute(("db",))),
        instance("db", "a", "10.0.0.1", weight=1),
        instance("db", "b", "10.0.0.2", weight=5),
        instance("db", "c", "10.0.0.3", weight=1),
    )
    services = document["tcp"]["services"]
    weighted = services[only(document["tcp"]["routers"])["service"]]["weighted"]["services"]
    shares = {}
    for member in weighted:
        servers = services[member["name"]]["loadBalancer"]["servers"]
        for server in servers:
            shares[server["address"]] = member["weight"] / len(servers)
    assert shares == {"10.0.0.1:8000": 1, "10.0.0.2:8000": 5, "10.0.0.3:8000": 1}


# --- what the plugin adds, and empty parts ---


def test_retry_and_dial_timeout_are_there_by_default_and_can_be_turned_off() -> None:
    document = document_of(WEB)
    assert only(document["http"]["routers"])["middlewares"] == [RETRY]
    assert document["http"]["middlewares"][RETRY]["retry"]["attempts"] == 8
    assert document["http"]["serversTransports"] == {
        TRANSPORT: {"forwardingTimeouts": {"dialTimeout": "2000ms"}}
    }
    plain = document_of(WEB, retry_attempts=0, dial_timeout=0)["http"]
    assert plain.keys() == {"routers", "services"}
    assert only(plain["routers"]).keys() == {"rule", "service"}
    assert only(plain["services"]) == {"loadBalancer": {"servers": []}}


def test_retry_in_flight_stands_outside_the_other_retry() -> None:
    document = document_of(WEB, retry_in_flight=True)
    assert only(document["http"]["routers"])["middlewares"] == [RETRY_IN_FLIGHT, RETRY]
    assert document["http"]["middlewares"].keys() == {RETRY_IN_FLIGHT, RETRY}


def test_nothing_to_route_is_an_empty_object() -> None:
    assert builder(FakeCatalog()).build() == b"{}"
    without_routes = service("job")
    assert builder(catalog_of(without_routes, instance("job", "a"))).build() == b"{}"
    only_bad = service("web", Route(rule="Nope()"))
    assert builder(catalog_of(only_bad)).build() == b"{}"
    orphans = [instance("gone", "a")]
    assert builder(catalog_of(*orphans)).build() == b"{}"


MODERN: dict[str, Any] = {"tls": {"options": {"modern": {"minVersion": "VersionTLS13"}}}}


@pytest.mark.parametrize(
    ("route", "error"),
    [
        (Route(path="/x", tls=TLS(options="modern")), "the rule names none"),
        (Route("*.example.com", tls=TLS(options="modern")), "the rule names none"),
        (Route(rule="PathPrefix(`/`)", tls=TLS(options="modern")), "the rule names none"),
        (Route(rule="Host(`a(b)`)", tls=TLS()), "not a host name"),
    ],
)
def test_tls_that_traefik_would_not_apply_is_an_error(route: Route, error: str) -> None:
    (problem,) = problems_of(service("web", route), **MODERN)
    assert problem.startswith("error: service web")
    assert error in problem


@pytest.mark.parametrize(
    "route",
    [
        Route(("a.b", "*.b"), tls=TLS(options="modern")),
        Route(rule="PathPrefix(`/`) && Host(`a.b`)", tls=TLS(options="modern")),
        Route(path="/x", tls=TLS(options="default")),
        Route(path="/x", tls=TLS()),
        Route(rule="Host(`a(b)`)"),
    ],
)
def test_tls_that_traefik_applies_is_none(route: Route) -> None:
    assert not problems_of(service("web", route), **MODERN)


def test_services_that_take_each_others_tls_options_away_are_told() -> None:
    safe = service("safe", Route("a.b", path="/x", tls=TLS(options="modern")))
    plain = service("plain", Route(rule="Host(`A.b`) && Path(`/y`)", tls=TLS()))
    elsewhere = service("elsewhere", Route("a.b", path="/z", tls=TLS(), entry_points=("other",)))
    same = service("same", Route("a.b", path="/s", tls=TLS(options="modern")))
    no_tls = service("no-tls", Route("a.b", path="/n"))
    assert not problems_of(safe, same, no_tls, **MODERN)
    problems = problems_of(safe, plain, **MODERN)
    assert len(problems) == 2
    assert "service plain serves a.b with other TLS options" in problems[1]
    assert "service safe serves a.b with other TLS options" in problems[0]
    on_web = service("safe", Route("a.b", tls=TLS(options="modern"), entry_points=("web",)))
    assert not problems_of(on_web, elsewhere, **MODERN)


def test_such_services_are_told_as_they_come_and_go() -> None:
    safe = service("safe", Route("a.b", path="/x", tls=TLS(options="modern")))
    plain = service("plain", Route("a.b", tls=TLS()))
    catalog = catalog_of(safe)
    made = builder(catalog, **MODERN)
    made.build()
    assert not made.problems
    catalog.publish(plain)
    made.build()
    assert [problem.service for problem in made.problems] == ["plain", "safe"]
    catalog.publish(service("plain", Route("c.d", tls=TLS())))
    made.build()
    assert not made.problems
    catalog.publish(plain)
    made.build()
    catalog.withdraw("plain")
    made.build()
    assert not made.problems
