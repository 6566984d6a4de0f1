"""Building Traefik's document for a fleet of 100 nodes and 1000 services, 3 instances each.

Ours: the whole document from a catalog, after one change, and for a poll without any change.
The peer: orjson serialising the finished document, which is the least that building it costs.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from benchmarks.result import BenchmarkResult, Criterion, Tell
from benchmarks.timing import time_calls
from constellation_core import (
    Health,
    HTTPCheck,
    Instance,
    Node,
    Port,
    PublishedService,
    Route,
)
from constellation_core.catalog.view import View
from constellation_plugin_traefik.config import TraefikConfig
from constellation_plugin_traefik.document import DocumentBuilder

SUMMARY = "Traefik's document for 1000 services on 100 nodes, beside orjson's mere serialising"

NODES = 100
SERVICES = 1000
INSTANCES = 3
_FULL, _CHANGE, _POLL = 0.010, 0.001, 0.0001

log = logging.getLogger("benchmarks.traefik")


class _Fleet:
    """The agent's own view of the catalog, filled directly instead of through gossip."""

    warm = True

    def __init__(self) -> None:
        self._view = View()
        nodes = [f"node-{number:03}" for number in range(NODES)]
        self._nodes = [Node(name, f"10.0.0.{number}", 7946) for number, name in enumerate(nodes, 1)]
        places = itertools.cycle(self._nodes)
        for number in range(SERVICES):
            service = PublishedService(
                f"service-{number:04}",
                ports=(Port("http"),),
                routes=(Route(host=f"service-{number:04}.example.com"),),
                check=HTTPCheck("/health", interval=5),
            )
            for node in itertools.islice(places, INSTANCES):
                self._view.put_published(node.name, service.name, service)
                instance = Instance(
                    f"{service.name}.{node.name}",
                    service.name,
                    node.name,
                    node.address,
                    {"http": 20_000 + number},
                    Health.HEALTHY,
                )
                self._view.put_instance(instance, instance.id)
            self._view.elect(service.name, lambda _: True)

    def toggle(self, instance_id: str) -> None:
        """Make an instance sick, or healthy again."""
        instance = self._view.instance(instance_id)
        assert instance is not None
        sick = instance.health is Health.HEALTHY
        health = Health.UNHEALTHY if sick else Health.HEALTHY
        self._view.put_instance(replace(instance, health=health), instance_id)

    @property
    def revision(self) -> int:
        return self._view.revision

    def instances(self, service: str | None = None) -> Sequence[Instance]:
        return self._view.instances(service)

    def instance(self, instance_id: str) -> Instance | None:
        return self._view.instance(instance_id)

    def services(self) -> Mapping[str, PublishedService]:
        return self._view.services()

    def changed_services(self, since: int) -> set[str] | None:
        return self._view.changed_services(since)

    def nodes(self) -> Sequence[Node]:
        return self._nodes

    async def wait_change(self, since: int) -> int:
        return await self._view.wait_change(since)


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes some seconds."""
    return asyncio.run(_measure(tell))


async def _measure(tell: Tell) -> BenchmarkResult:
    tell(f"a catalog of {SERVICES} services on {NODES} nodes, {INSTANCES} instances each")
    fleet = _Fleet()
    config = TraefikConfig()
    body = DocumentBuilder(fleet, config, log).build()
    document = orjson.loads(body)
    built = len(document["http"]["routers"])
    servers = sum(
        len(each["loadBalancer"]["servers"]) for each in document["http"]["services"].values()
    )
    if (built, servers) != (SERVICES, SERVICES * INSTANCES):
        raise RuntimeError(f"the document has {built} routers and {servers} servers")

    def build_all() -> object:
        builder = DocumentBuilder(fleet, config, log)
        return builder.build(), builder

    full = time_calls(build_all, 300)
    peer = time_calls(lambda: orjson.dumps(document), 200)

    builder = DocumentBuilder(fleet, config, log)
    builder.build()
    numbers = itertools.cycle(range(SERVICES))
    ids = [each.id for each in fleet.instances()]

    def change() -> None:
        fleet.toggle(ids[next(numbers) * INSTANCES])
        builder.build()

    one_change = time_calls(change, 400)
    if builder.build() == body:
        raise RuntimeError("the changes are not in the document")
    poll = time_calls(builder.build, 2000)
    return BenchmarkResult(
        "traefik-document",
        ours={
            "full_build_ms": _ms(full.best),
            "full_build_median_ms": _ms(full.median),
            "one_change_ms": _ms(one_change.median),
            "unchanged_poll_ms": _ms(poll.median),
            "bytes": len(body),
        },
        peer={
            "orjson_dumps_ms": _ms(peer.best),
            "orjson_dumps_median_ms": _ms(peer.median),
            "bytes": len(orjson.dumps(document)),
        },
        ratio=round(full.best / peer.best, 2),
        criteria=(
            Criterion("full build < 10 ms (best of 300)", full.best < _FULL),
            Criterion("one change < 1 ms", one_change.median < _CHANGE),
            Criterion("unchanged poll < 0.1 ms", poll.median < _POLL),
        ),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 5)
