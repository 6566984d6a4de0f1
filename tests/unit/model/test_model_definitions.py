"""Definitions: what is refused at once, and the wire form of what all nodes see."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from constellation_core import (
    ExecCheck,
    HTTPCheck,
    Port,
    PublishedService,
    Restart,
    Route,
    Service,
    TCPCheck,
)
from constellation_core.model.names import check_label
from constellation_core.model.route import TLS, Sticky, TCPRoute

HTTP = Port("http", 8080)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"command": ()}, "command"),
        ({"command": ("x",), "stop_signal": "SIGNOPE"}, "SIGTERM"),
        ({"command": ("x",), "stop_grace": -1}, "stop_grace"),
        ({"command": ("x",), "env": {"A B": "x"}}, "env"),
        ({"command": ("x",), "ports": (HTTP, HTTP)}, "http"),
        ({"command": ("x",), "ports": (HTTP, Port("other", 8080))}, "8080"),
        ({"command": ("x",), "routes": (Route("a.example.com"),)}, "port"),
        ({"command": ("x",), "ports": (HTTP,), "routes": (Route("a.b", port="no"),)}, "no"),
        ({"command": ("x",), "ports": (HTTP,), "check": TCPCheck("no")}, "no"),
        ({"command": ("x",), "weight": 5000}, "weight"),
        ({"command": ("x",), "tags": ("",)}, "tags"),
        ({"command": ("x",), "unknown": 1}, "unknown"),
    ],
)
def test_a_wrong_service_is_refused_where_it_is_written(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        Service("web", **settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Route(),
        lambda: Route("a.example.com", rule="Path(`/`)"),
        lambda: Route("not a host"),
        lambda: Route("a.example.com", path="no-slash"),
        lambda: Route("a.example.com", tls=TLS(passthrough=True)),
        lambda: TCPRoute(()),
        lambda: TCPRoute(("db",), sni="db.example.com"),
        lambda: Sticky("a cookie"),
        lambda: HTTPCheck("no-slash"),
        lambda: HTTPCheck(interval=0),
        lambda: ExecCheck(()),
        lambda: TCPCheck(rise=0),
        lambda: Restart("sometimes"),  # type: ignore[arg-type]
        lambda: Port("x", 70_000),
        lambda: Port("Not A Label"),
    ],
)
def test_wrong_parts_are_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()


def test_signals_may_be_written_in_every_usual_way() -> None:
    for written in ("SIGINT", "int", "SigInt"):
        assert Service("a", command=("x",), stop_signal=written).stop_signal == "SIGINT"


def test_the_environment_is_in_no_repr() -> None:
    assert "hunter2" not in repr(Service("a", command=("x",), env={"PASSWORD": "hunter2"}))


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a" * 64, "ä", "a_b", "a b"])
def test_names_that_are_no_labels(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_label(name)


ROUTES = st.one_of(
    st.builds(
        Route,
        st.sampled_from(["a.example.com", "*.example.com", "{domain}"]),
        path=st.sampled_from([None, "/api"]),
        priority=st.none() | st.integers(1, 1000),
        sticky=st.none() | st.builds(Sticky, secure=st.booleans()),
        tls=st.none() | st.builds(TLS, resolver=st.sampled_from([None, "le"])),
        middlewares=st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    ),
    st.builds(TCPRoute, st.just(("db",)), priority=st.none() | st.integers(1, 1000)),
)
CHECKS = st.one_of(
    st.none(),
    st.builds(HTTPCheck, headers=st.just({"Authorization": "Bearer hunter2"})),
    st.builds(TCPCheck, interval=st.floats(0.1, 100)),
)


@given(st.lists(ROUTES, max_size=3), CHECKS)
def test_what_is_published_survives_the_wire_and_holds_no_secret(
    routes: list[Any], check: Any
) -> None:
    service = Service(
        "web",
        command=("serve", "--token", "hunter2"),
        env={"TOKEN": "hunter2"},
        ports=(HTTP,),
        routes=tuple(routes),
        check=check,
    )
    published = PublishedService.of(service, domain="example.org")
    wire = published.to_wire()
    assert PublishedService.from_wire(wire) == published
    assert PublishedService.from_wire(wire).version == published.version
    assert "hunter2" not in repr(wire)
    assert "{domain}" not in repr(wire)


def test_without_a_domain_its_place_stays_empty_for_all_to_see() -> None:
    service = Service("web", command=("serve",), ports=(HTTP,), routes=(Route("www.{domain}"),))
    assert PublishedService.of(service, domain="").routes == (Route("www.{domain}"),)
    (filled,) = PublishedService.of(service, domain="example.org").routes
    assert filled == Route("www.example.org")


PLAIN = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "ports", "routes", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(PLAIN)
def test_anything_else_on_the_wire_is_a_value_error(plain: Any) -> None:
    try:
        PublishedService.from_wire(plain)
    except (ValueError, TypeError, KeyError):
        return
    pytest.fail(f"{plain!r} was taken for a service")
