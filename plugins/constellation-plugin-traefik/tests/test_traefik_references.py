"""Middlewares by name, routes that get in each other's way, and how problems are told."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from pydantic import ValidationError

from constellation_core import Port, PublishedService
from constellation_core.model.route import TLS, Route, TCPRoute
from constellation_core.testing.catalog import FakeCatalog
from constellation_plugin_traefik.config import RETRY, TraefikConfig
from constellation_plugin_traefik.document import DocumentBuilder

LOG = logging.getLogger("constellation.plugins.traefik")
STRIP = {"stripPrefix": {"prefixes": ["/api"]}}
COMPRESS: dict[str, Any] = {"compress": {}}
OWN_RETRY = {"retry": {"attempts": 2}}


def service(name: str, *routes: Route | TCPRoute) -> PublishedService:
    return PublishedService(name, ports=(Port("http"),), routes=routes)


class Fleet:
    """A catalog and the builder that follows it."""

    def __init__(self, *services: PublishedService, **settings: Any) -> None:
        self.catalog = FakeCatalog()
        for each in services:
            self.catalog.publish(each)
        self.builder = DocumentBuilder(self.catalog, TraefikConfig.model_validate(settings), LOG)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.builder.build())
        return document

    def middlewares_by_rule(self) -> dict[str, list[str]]:
        routers = self.document().get("http", {}).get("routers", {})
        return {each["rule"]: each.get("middlewares", []) for each in routers.values()}

    def rules(self) -> set[str]:
        return set(self.middlewares_by_rule())

    def problems(self) -> list[str]:
        self.builder.build()
        return [f"{each.level}: {each}" for each in self.builder.problems]


# --- middlewares ---


def test_middlewares_are_the_defaults_then_the_routes_own_then_retry_each_once() -> None:
    fleet = Fleet(
        service("web", Route("a.x", middlewares=("strip", "zip", "auth@file")), Route("b.x")),
        middlewares={"strip": STRIP, "zip": COMPRESS},
        default_middlewares=["zip"],
    )
    assert fleet.middlewares_by_rule() == {
        "Host(`a.x`)": ["zip", "strip", "auth@file", RETRY],
        "Host(`b.x`)": ["zip", RETRY],
    }
    defined = fleet.document()["http"]["middlewares"]
    assert defined.keys() == {"strip", "zip", RETRY}
    assert defined["strip"] == STRIP
    assert defined["zip"] == COMPRESS


def test_a_route_with_a_retry_of_its_own_gets_no_second_one() -> None:
    fleet = Fleet(
        service("web", Route("a.x", middlewares=("mine",)), Route("b.x", middlewares=("all",))),
        middlewares={"mine": OWN_RETRY, "all": {"chain": {"middlewares": ["mine"]}}},
    )
    assert fleet.middlewares_by_rule() == {"Host(`a.x`)": ["mine"], "Host(`b.x`)": ["all"]}


def test_a_missing_middleware_costs_its_route_and_no_other() -> None:
    fleet = Fleet(
        service("web", Route("a.x", middlewares=("stripp",)), Route("b.x")),
        service("other", Route("c.x", middlewares=("strip",))),
        middlewares={"strip": STRIP},
    )
    assert fleet.rules() == {"Host(`b.x`)", "Host(`c.x`)"}
    assert fleet.problems() == [
        "error: service web, http route 1 (Host(`a.x`)): no middleware 'stripp': define "
        "[plugins.traefik.middlewares.stripp]; did you mean 'strip'?"
    ]


def test_tcp_middlewares_are_for_every_tcp_route() -> None:
    allow = {"ipAllowList": {"sourceRange": ["10.0.0.0/8"]}}
    fleet = Fleet(
        service("db", TCPRoute(("db",))),
        tcp_middlewares={"inner": allow},
        default_tcp_middlewares=["inner"],
    )
    tcp = fleet.document()["tcp"]
    assert [each["middlewares"] for each in tcp["routers"].values()] == [["inner"]]
    assert tcp["middlewares"] == {"inner": allow}


def test_an_error_page_needs_its_service_and_comes_back_with_it() -> None:
    pages = service("pages", Route("pages.x"))
    (page_service,) = Fleet(pages).document()["http"]["services"]
    fleet = Fleet(
        service("web", Route("a.x", middlewares=("nice",)), Route("b.x")),
        pages,
        middlewares={
            "nice": {"chain": {"middlewares": ["sorry"]}},
            "sorry": {"errors": {"status": ["500-599"], "service": page_service}},
        },
    )
    everything = {"Host(`a.x`)", "Host(`b.x`)", "Host(`pages.x`)"}
    assert fleet.rules() == everything
    assert fleet.problems() == []
    fleet.catalog.withdraw("pages")
    assert fleet.rules() == {"Host(`b.x`)"}
    (problem,) = fleet.problems()
    assert "middleware 'sorry' cannot be used: no route leads to its errors.service" in problem
    fleet.catalog.publish(pages)
    assert fleet.rules() == everything
    assert fleet.problems() == []


def test_error_pages_that_need_each_other_are_settled_the_same_way_from_any_start() -> None:
    # web's route needs the page of `pages`, whose own route needs a page of nobody.
    pages = service("pages", Route("pages.x", middlewares=("never",)))
    (page_service,) = Fleet(service("pages", Route("pages.x"))).document()["http"]["services"]
    settings = {
        "middlewares": {
            "sorry": {"errors": {"status": ["500"], "service": page_service}},
            "never": {"errors": {"status": ["500"], "service": "nobody-00000000"}},
        }
    }
    web = service("web", Route("a.x", middlewares=("sorry",)))
    at_once, step_by_step = Fleet(web, pages, **settings), Fleet(**settings)
    for each in (pages, web):
        step_by_step.builder.build()
        step_by_step.catalog.publish(each)
    assert at_once.rules() == step_by_step.rules() == set()
    assert at_once.problems() == step_by_step.problems()
    assert len(at_once.problems()) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"default_middlewares": ["x"]}, "default_middlewares: there is no middleware 'x'"),
        ({"default_tcp_middlewares": ["x"]}, "there is no middleware 'x'"),
        ({"middlewares": {"a": {"chain": {"middlewares": ["x"]}}}}, "no middleware 'x'"),
        (
            {
                "middlewares": {
                    "a": {"chain": {"middlewares": ["b"]}},
                    "b": {"chain": {"middlewares": ["a@http"]}},
                }
            },
            "the chain contains itself",
        ),
        ({"middlewares": {"constellation-x": COMPRESS}}, "are the plugin's own"),
        ({"middlewares": {"A": COMPRESS}}, "not a usable name"),
        ({"middlewares": {"a": {}}}, "needs at least one of"),
        ({"middlewares": {"a": {**COMPRESS, **STRIP}}}, "a middleware is of one kind"),
        ({"middlewares": {"a": {"compres": {}}}}, "compres"),
        ({"default_entry_points": ["web@file"]}, "has no '@'"),
        ({"api_url": "ftp://x"}, "the address of Traefik's API"),
    ],
    ids=repr,
)
def test_settings_that_could_not_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match="validation error") as refused:
        TraefikConfig.model_validate(settings)
    assert message in str(refused.value)


# --- routes that get in each other's way ---


def test_the_same_route_twice_in_a_service_is_an_error() -> None:
    fleet = Fleet(service("web", Route("a.x"), Route("A.x", scheme="https")))
    assert len(fleet.document()["http"]["routers"]) == 1
    (problem,) = fleet.problems()
    assert problem.startswith("error: service web, http route 2")
    assert "the same requests as route 1" in problem


def test_the_same_rule_is_fine_on_another_entry_point_over_tls_or_with_a_priority() -> None:
    fleet = Fleet(
        service("web", Route("a.x", entry_points=("one",)), Route("a.x", entry_points=("two",))),
        service("tls", Route("a.x", tls=TLS(), entry_points=("one",))),
        service("ranked", Route("a.x", priority=9, entry_points=("one",))),
    )
    assert fleet.problems() == []
    assert len(fleet.document()["http"]["routers"]) == 4


def test_two_services_with_one_rule_are_both_kept_and_both_told() -> None:
    fleet = Fleet(service("one", Route("a.x")), service("two", Route("a.x")))
    assert len(fleet.document()["http"]["routers"]) == 2
    first, second = fleet.problems()
    assert first.startswith("warning: service one, http route 1 (Host(`a.x`)): service two has ")
    assert second.startswith("warning: service two, http route 1 (Host(`a.x`)): service one has ")
    fleet.catalog.publish(service("two", Route("b.x")))
    assert fleet.problems() == []


# --- how problems are told ---


def test_a_problem_is_logged_once_when_it_appears_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    bad = service("web", Route("a.x", middlewares=("nope",)))
    fleet = Fleet(bad)
    for name in ("b", "c"):
        fleet.builder.build()
        fleet.catalog.publish(service(name, Route(f"{name}.x")))
    fleet.builder.build()
    assert [(each.levelname, each.name) for each in caplog.records] == [("ERROR", LOG.name)]
    assert "service web, http route 1 (Host(`a.x`)): no middleware 'nope'" in caplog.text
    caplog.clear()
    fleet.catalog.publish(service("web", Route("a.x")))
    fleet.builder.build()
    fleet.builder.build()
    (ended,) = caplog.records
    assert ended.levelname == "INFO"
    assert ended.getMessage().startswith("no more: service web, http route 1")
