"""What follows from a definition: ports, order of an update, isolation, images, sizes."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core import (
    Bind,
    Dependency,
    HTTPCheck,
    LogOptions,
    Network,
    Port,
    PublishedService,
    Resources,
    Route,
    Secret,
    Service,
    TCPCheck,
    TCPRoute,
    Tmpfs,
    UpdatePolicy,
    Volume,
)
from constellation_core.model.image import ImageReference
from constellation_core.model.networks import NETWORKS
from constellation_core.model.resources import parse_size, size_in_words
from constellation_core.model.together import problems_between


def web(**settings: Any) -> Service:
    return Service("web", **{"image": "nginx:1.29", **settings})


def test_the_example_of_the_design_is_a_service() -> None:
    whoami = Service(
        "whoami",
        image="traefik/whoami:v1.11",
        replicas=3,
        networks=["publicnet"],  # type: ignore[arg-type]
        routes=[Route(host="whoami.{domain}", port=80)],  # type: ignore[arg-type]
        check=HTTPCheck("/health", port=80, interval=5),
    )
    assert whoami.ports == (Port("p80", 80),)
    assert whoami.port(80).name == "p80"
    assert whoami.attached_networks == (NETWORKS["publicnet"],)


def test_ports_that_are_named_by_number_count_as_listed_where_none_is() -> None:
    routes = (Route("a.b", port=80), TCPRoute(("db",), port=5432), Route("b.c", port=80))
    assert web(routes=routes, check=TCPCheck(9000)).ports == (
        Port("p80", 80),
        Port("p5432", 5432),
        Port("p9000", 9000),
    )
    # Where some are listed, another number is more likely a slip.
    with pytest.raises(ValueError, match="uses port 8080; there is only 'http' \\(80\\)"):
        web(ports=(Port("http", 80),), routes=(Route("a.b", port=8080),))


def test_short_forms_are_kept_in_their_long_form() -> None:
    service = web(secrets=("a",), depends_on=("b",), networks=("backend",))
    assert service.secret_files == (Secret("a"),)
    assert service.secret_files[0].path == "/run/secrets/a"
    assert Secret("a", target="b").path == "/run/secrets/b"
    assert service.dependencies == (Dependency("b"),)
    assert service.attached_networks[0].internal
    resources = Resources(reserve_memory="64M", limit_memory="1.5G")
    assert resources.reserved_bytes == 64 * 1024**2
    assert resources.memory_limit_bytes == 1536 * 1024**2
    assert Resources().reserved_bytes == 0
    assert Resources().memory_limit_bytes is None
    assert Tmpfs("/a", size="1M").size_bytes == 1024**2
    assert LogOptions(max_size="1M").max_bytes == 1024**2
    assert web(stop_signal=signal.SIGINT).stop_signal == "SIGINT"


FREE = Port("http", 80)
FIXED = Port("http", 80, host=8080)
DATA = Volume("data", "/data")


@pytest.mark.parametrize(
    ("service", "order", "reason"),
    [
        (web(), "start-first", ""),
        (web(ports=(FREE,)), "start-first", ""),
        (web(ports=(FIXED,)), "stop-first", "port 'http' is the fixed port 8080 of the node"),
        (web(ports=(FREE,), networks=("host",)), "stop-first", "is the fixed port 80 of the node"),
        (web(volumes=(DATA,)), "stop-first", "it writes to the volume 'data'"),
        (web(volumes=(DATA,), update=UpdatePolicy(order="start-first")), "start-first", "data"),
        (web(volumes=(Volume("a", "/a", read_only=True),)), "start-first", ""),
        (web(volumes=(Bind("a", "/a"), Tmpfs("/b"))), "start-first", ""),
        (web(mode="singleton"), "stop-first", "it is a singleton"),
        (web(update=UpdatePolicy(order="stop-first")), "stop-first", ""),
        (Service("web", command=("x",), ports=(Port("a"),)), "start-first", ""),
        (Service("web", command=("x",), ports=(Port("a", 80),)), "stop-first", "fixed port 80"),
    ],
)
def test_the_order_of_an_update_is_the_best_that_is_possible(
    service: Service, order: str, reason: str
) -> None:
    assert service.update_order == order
    assert reason in service.overlap.reason
    assert service.overlap.safe == (not service.overlap.reason)


def test_fixed_ports_of_the_node() -> None:
    assert web(ports=(FIXED, Port("other", 81))).host_ports == {"http": 8080}
    assert Service("a", command=("x",), ports=(Port("a"), Port("b", 5))).host_ports == {"b": 5}


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        ({}, False),
        ({"when_isolated": "keep"}, False),
        ({"when_isolated": "stop"}, True),
        ({"mode": "global"}, False),
        ({"mode": "singleton"}, True),
        ({"mode": "singleton", "when_isolated": "stop"}, True),
    ],
)
def test_who_stops_on_a_node_that_is_cut_off(settings: Any, stops: bool) -> None:
    assert web(**settings).stops_when_isolated is stops


def test_other_nodes_are_not_told_where_a_port_is_published() -> None:
    # Nor would agents that know nothing of it yet understand the definition.
    published = PublishedService.of(web(ports=(FIXED, Port("b", 1, publish="all"))), domain="")
    assert published.ports == (Port("http", 80), Port("b", 1))


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("nginx", ImageReference("", "nginx")),
        ("nginx:1.29", ImageReference("", "nginx", "1.29")),
        ("a/b__c/d-e.f", ImageReference("", "a/b__c/d-e.f")),
        ("localhost/a", ImageReference("localhost", "a")),
        ("r.example.com/a/b:x", ImageReference("r.example.com", "a/b", "x")),
        ("r:5000/a", ImageReference("r:5000", "a")),
        ("[::1]:5000/a:1", ImageReference("[::1]:5000", "a", "1")),
        ("a:1@sha256:" + "0" * 64, ImageReference("", "a", "1", "sha256:" + "0" * 64)),
    ],
)
def test_image_references_are_taken_apart(text: str, reference: ImageReference) -> None:
    assert ImageReference.parse(text) == reference
    assert str(reference) == text


@given(st.text(alphabet="abC.:/@-_[] 1", max_size=20))
def test_whatever_passes_for_an_image_is_put_together_again(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except ValueError:
        return
    assert str(reference) == text
    assert reference.repository


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        ("1", 1),
        ("1b", 1),
        ("1k", 1024),
        ("2KB", 2048),
        ("1 MiB", 1024**2),
        ("1.5G", 1536 * 1024**2),
        ("1t", 1024**4),
        ("0.3k", 307),
    ],
)
def test_sizes(written: object, size: int) -> None:
    assert parse_size(written) == size


@given(st.integers(1, 2**50))
def test_a_size_in_words_is_the_size(size: int) -> None:
    assert parse_size(size_in_words(size).removesuffix(" bytes")) == size


@pytest.mark.parametrize("written", [0, -1, "-1M", "1e3", "M", "", None, 1.5, True, "1P", "2000T"])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(written)


def test_services_that_wait_for_each_other() -> None:
    one = Service("one", image="x", depends_on=("two",))
    two = Service("two", image="x", depends_on=("three",))
    three = Service("three", image="x", depends_on=("one",))
    assert list(problems_between([one, two])) == []
    (problem,) = problems_between([one, two, three])
    path = problem.removeprefix("services wait for each other: ").split(" -> ")
    assert len(path) == 4
    assert path[0] == path[-1]
    waits = {"one": "two", "two": "three", "three": "one"}
    assert all(waits[first] == second for first, second in itertools.pairwise(path))


def test_services_that_depend_on_what_is_not_there() -> None:
    one = Service("one", image="x", depends_on=("postgres",))
    assert list(problems_between([one])) == []
    assert list(problems_between([one], known=["postgres"])) == []
    assert list(problems_between([one], known=["postgress"])) == [
        "service 'one': depends_on: there is no service 'postgres'; did you mean 'postgress'?"
    ]


def test_services_that_mean_different_networks_by_one_name() -> None:
    one = Service("one", image="x", networks=(Network("mine"),))
    two = Service("two", image="x", networks=(Network("mine", internal=True),))
    same = Service("three", image="x", networks=(Network("mine"),))
    assert list(problems_between([one, same])) == []
    assert list(problems_between([one, two])) == [
        "services 'one' and 'two' define the network 'mine' in two ways; make it one value, and "
        "use it in both"
    ]


def test_services_of_one_name() -> None:
    one = Service("one", image="x")
    assert list(problems_between([one, one])) == [
        "two services are named 'one'; names must be unique"
    ]
