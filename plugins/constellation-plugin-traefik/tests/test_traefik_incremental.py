"""The document follows every change, and is the same however it came about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from constellation_core import Health, HTTPCheck, Instance, Port, PublishedService
from constellation_core.model.route import TLS, Route, Sticky, TCPRoute
from constellation_core.testing.catalog import FakeCatalog
from constellation_plugin_traefik.config import TraefikConfig
from constellation_plugin_traefik.document import DocumentBuilder
from constellation_plugin_traefik.naming import belongs_to, object_name

LOG = logging.getLogger("constellation.plugins.traefik.test")
PAGES = PublishedService("pages", ports=(Port("http"),), routes=(Route("pages.x"),))
QUICK = TraefikConfig()


def _page_service() -> str:
    catalog = FakeCatalog()
    catalog.publish(PAGES)
    document = json.loads(DocumentBuilder(catalog, QUICK, LOG).build())
    (name,) = document["http"]["services"]
    return str(name)


CONFIG = TraefikConfig.model_validate(
    {
        "known_entry_points": ["one", "two"],
        "middlewares": {
            "zip": {"compress": {}},
            "again": {"retry": {"attempts": 2}},
            "sorry": {"errors": {"status": ["500"], "service": _page_service()}},
            "both": {"chain": {"middlewares": ["sorry", "zip"]}},
        },
        "tls": {"options": {"modern": {"minVersion": "VersionTLS13"}}},
    }
)

# Few values for everything, so that equal rules, names and backends meet all the time.
NAMES = ("a", "a-b", "b", "pages")
PORTS = (Port("http"), Port("b"))
HOSTS = st.sampled_from(("a.x", "b.x", "*.x", "a*b.x"))
ENTRY_POINTS = st.sampled_from(((), ("one",), ("one", "two"), ("three",)))
TLS_SETTINGS = st.sampled_from((None, TLS(), TLS(options="modern"), TLS(options="none")))
PRIORITIES = st.sampled_from((None, 3))
HTTP_ROUTES = st.builds(
    Route,
    HOSTS,
    port=st.sampled_from((None, "b")),
    scheme=st.sampled_from(("http", "h2c")),
    entry_points=ENTRY_POINTS,
    priority=PRIORITIES,
    middlewares=st.lists(
        st.sampled_from(("zip", "again", "sorry", "both", "none")), max_size=2
    ).map(tuple),
    tls=TLS_SETTINGS,
    sticky=st.sampled_from((None, Sticky())),
    balance_check=st.booleans(),
)
TCP_ROUTES = st.one_of(
    st.builds(TCPRoute, st.sampled_from((("one",), ("three",))), priority=PRIORITIES),
    st.builds(
        TCPRoute,
        st.just(("one",)),
        sni=HOSTS,
        tls=st.sampled_from((TLS(), TLS(passthrough=True), TLS(passthrough=True, resolver="le"))),
    ),
)
SERVICES = st.one_of(
    st.just(PAGES),
    st.builds(
        PublishedService,
        st.sampled_from(NAMES),
        ports=st.just(PORTS),
        routes=st.lists(HTTP_ROUTES | TCP_ROUTES, max_size=3).map(tuple),
        check=st.sampled_from((None, HTTPCheck(), HTTPCheck("//x"))),
    ),
)


def _instance(service: str, node: str, health: Health, weight: int, number: int) -> Instance:
    ports = {"http": number, "b": 90}
    return Instance(f"{service}.{node}", service, node, f"10.0.0.{number}", ports, health, weight)


INSTANCES = st.builds(
    _instance,
    st.sampled_from(NAMES),
    st.sampled_from(("n1", "n2")),
    st.sampled_from((Health.HEALTHY, Health.SUSPECT, Health.UNHEALTHY)),
    st.sampled_from((0, 1, 5)),
    st.sampled_from((0, 1, 2)),
)


@dataclass(frozen=True)
class Withdraw:
    service: str


@dataclass(frozen=True)
class Remove:
    instance: str


Change = PublishedService | Instance | Withdraw | Remove
CHANGES = st.one_of(
    SERVICES,
    SERVICES,
    INSTANCES,
    st.builds(Withdraw, st.sampled_from(NAMES)),
    st.builds(Remove, st.sampled_from([f"{name}.n1" for name in NAMES])),
)


def apply(catalog: FakeCatalog, changes: Sequence[Change]) -> None:
    for change in changes:
        match change:
            case PublishedService():
                catalog.publish(change)
            case Instance():
                catalog.put(change)
            case Withdraw(name):
                catalog.withdraw(name)
            case Remove(name):
                catalog.remove(name)


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from objects_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from objects_in(each)


@given(
    batches=st.lists(st.lists(CHANGES, min_size=1, max_size=3), max_size=12),
    history=st.sampled_from((1, 10_000)),
)
@settings(deadline=None, max_examples=150)
@example(batches=[[PAGES], [Withdraw("pages")], [PAGES]], history=10_000)
def test_after_every_change_the_document_is_that_of_a_new_builder(
    batches: list[list[Change]], history: int
) -> None:
    # With a history of 1 the builder often has to look through the whole catalog.
    catalog = FakeCatalog(history=history)
    followed = DocumentBuilder(catalog, CONFIG, LOG)
    for changes in batches:
        apply(catalog, changes)
        before, count = followed.build(), followed.changes
        fresh = DocumentBuilder(catalog, CONFIG, LOG)
        assert followed.build() == fresh.build()
        assert list(followed.problems) == list(fresh.problems)
        for kind in ("http", "tcp"):
            assert followed.router_names(kind) == fresh.router_names(kind)
        assert followed.routed == fresh.routed
        # Nothing changed: the very same bytes, not only equal ones.
        assert followed.build() is before
        assert followed.changes == count


@given(
    changes=st.lists(SERVICES | INSTANCES, max_size=8),
    data=st.data(),
)
@settings(deadline=None, max_examples=100)
def test_the_bytes_do_not_depend_on_the_order_in_which_things_were_heard(
    changes: list[PublishedService | Instance], data: st.DataObject
) -> None:
    # One value for each name: of two, the later one would count.
    by_name = {each.id if isinstance(each, Instance) else each.name: each for each in changes}
    one, other = FakeCatalog(), FakeCatalog()
    apply(one, list(by_name.values()))
    apply(other, data.draw(st.permutations(list(by_name.values()))))
    assert DocumentBuilder(one, CONFIG, LOG).build() == DocumentBuilder(other, CONFIG, LOG).build()


@given(changes=st.lists(CHANGES, max_size=12))
@settings(deadline=None, max_examples=150)
def test_every_document_is_whole(changes: list[Change]) -> None:
    catalog = FakeCatalog()
    apply(catalog, changes)
    builder = DocumentBuilder(catalog, CONFIG, LOG)
    document = json.loads(builder.build())
    # What Traefik takes empty: `compress`, and `tls` of a router.
    for each in objects_in(document):
        for name, value in each.items():
            if value == {}:
                assert name in ("compress", "tls"), f"{name} is empty"
    for kind in ("http", "tcp"):
        section = document.get(kind, {})
        services = section.get("services", {})
        middlewares = section.get("middlewares", {})
        used = set()
        for name, router in section.get("routers", {}).items():
            assert any(belongs_to(name, service) for service in catalog.services())
            assert router["service"] in services
            assert set(router.get("middlewares", ())) <= middlewares.keys()
            used.add(router["service"])
        for service in list(used):
            weighted = services[service].get("weighted", {"services": []})
            used |= {each["name"] for each in weighted["services"]}
        assert used == services.keys(), "no service stands there for nothing"
    # Keys in order: the text is what Traefik compares.
    assert json.dumps(document, sort_keys=True, separators=(",", ":")).encode() == builder.build()


# Few letters, and hyphens: one name often begins another.
SERVICE_NAMES = st.lists(st.text("a0", min_size=1, max_size=8), min_size=1, max_size=3).map(
    "-".join
)
IDENTITIES = st.text(max_size=8)


@settings(deadline=None)
@given(first=st.tuples(SERVICE_NAMES, IDENTITIES), second=st.tuples(SERVICE_NAMES, IDENTITIES))
@example(first=("a", "x"), second=("a-00000000", "x"))
def test_two_services_never_share_a_name(first: tuple[str, str], second: tuple[str, str]) -> None:
    one, other = (object_name(*each, taken=()) for each in (first, second))
    assert belongs_to(one, first[0])
    assert (one == other) <= (first[0] == second[0])
    assert belongs_to(one, second[0]) == (first[0] == second[0])


@settings(deadline=None)
@given(service=SERVICE_NAMES, identities=st.lists(IDENTITIES, unique=True, max_size=20))
@example(service="web", identities=["plumless", "buckeroo"])  # Equal CRC-32: 4ddb0c25.
def test_objects_of_one_service_never_share_a_name(service: str, identities: list[str]) -> None:
    taken: set[str] = set()
    for identity in identities:
        name = object_name(service, identity, taken)
        assert name not in taken
        assert belongs_to(name, service)
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        taken.add(name)


def test_names_outlive_changes_of_instances_and_of_other_services() -> None:
    catalog = FakeCatalog()
    web = PublishedService("web", ports=PORTS, routes=(Route("web.x"), Route("w.x")))
    catalog.publish(web)
    builder = DocumentBuilder(catalog, QUICK, LOG)
    builder.build()
    names = builder.router_names("http")
    catalog.put(_instance("web", "n1", Health.HEALTHY, 1, 1))
    catalog.publish(PublishedService("a", ports=PORTS, routes=(Route("a.x"),)))
    catalog.publish(
        PublishedService("web", ports=PORTS, routes=(Route("w.x"), Route("web.x", sticky=Sticky())))
    )
    builder.build()
    assert [name for name in builder.router_names("http") if belongs_to(name, "web")] == names
