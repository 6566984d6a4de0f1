"""The fakes for plugin authors keep the promises of the interfaces that they stand in for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core import Health, Instance, Port, PublishedService, Service
from constellation_core.plugins.context import (
    CatalogView,
    Clock,
    LocalInstances,
    PluginContext,
    Secrets,
)
from constellation_core.runtime import Phase, RuntimeStatus
from constellation_core.testing.catalog import FakeCatalog
from constellation_core.testing.context import FakeContext
from constellation_core.testing.manual_clock import ManualClock

WEB = Service("web", command=("web",), ports=(Port("http"),))


def instance(service: str, node: str, health: Health = Health.HEALTHY) -> Instance:
    return Instance(f"{service}.{node}", service, node, "127.0.0.1", {"http": 80}, health)


def test_fakes_fit_the_interfaces() -> None:
    # mypy does the work here.
    context: PluginContext = FakeContext()
    catalog: CatalogView = context.catalog
    local: LocalInstances = context.local
    secrets: Secrets = context.secrets
    clock: Clock = context.clock
    assert (catalog.warm, local.ids(), clock.monotonic()) == (True, [], 1000.0)
    with pytest.raises(LookupError, match="token"):
        secrets.read("token")


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from(Health))),
    st.integers(0, 40),
)
def test_changed_services_names_what_changed_after_a_revision(
    steps: list[tuple[str, str, Health]], since: int
) -> None:
    catalog = FakeCatalog()
    changed_at: list[str] = []
    for service, node, health in steps:
        before = catalog.instance(f"{service}.{node}")
        new = instance(service, node, health)
        catalog.put(new)
        if before != new:
            changed_at.append(service)
    assert catalog.revision == len(changed_at)
    assert catalog.changed_services(since) == set(changed_at[since:])
    assert [each.id for each in catalog.instances()] == sorted(
        each.id for each in catalog.instances()
    )


def test_catalog_forgets_old_changes_and_says_so() -> None:
    catalog = FakeCatalog(history=2)
    for node in "abcd":
        catalog.put(instance("web", node))
    assert catalog.changed_services(1) is None
    assert catalog.changed_services(2) == {"web"}
    assert catalog.changed_services(4) == set()


async def test_waiting_for_a_change() -> None:
    catalog = FakeCatalog()
    waiting = asyncio.create_task(catalog.wait_change(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    catalog.publish(WEB)
    async with asyncio.timeout(5):
        assert await waiting == 1
    catalog.publish(WEB)
    assert catalog.revision == 1
    assert catalog.services() == {"web": PublishedService.of(WEB, domain="")}
    catalog.withdraw("web")
    catalog.withdraw("web")
    assert catalog.revision == 2


async def test_manual_clock_wakes_in_order_and_again() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def every(name: str, seconds: float) -> None:
        while True:
            await clock.sleep(seconds)
            woken.append((name, clock.monotonic() - 1000))

    tasks = [asyncio.create_task(every("a", 2)), asyncio.create_task(every("b", 3))]
    await clock.advance(6.5)
    assert woken == [("a", 2), ("b", 3), ("a", 4), ("b", 6), ("a", 6)]
    assert clock.time() - 1_700_000_000 == 6.5
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.sleepers == 0


async def test_local_instances_publish_no_better_than_the_verdict() -> None:
    context = FakeContext()
    told: list[str] = []
    stop = context.local.subscribe(told.append)
    web = context.local.add(WEB)
    context.local.report_health(web, Health.UNHEALTHY, "503")
    context.local.report_health("gone.node-a", Health.UNHEALTHY)
    assert context.local.instance(web).health is Health.UNHEALTHY
    assert context.local.instance(web).reason == "503"
    context.local.report_health(web, None)
    assert context.local.instance(web).health is Health.HEALTHY
    await context.local.restart(web, "sick")
    assert context.local.restarts == [(web, "sick")]
    assert context.local.status(web).restarts == 1
    context.local.set_status(web, replace(RuntimeStatus(Phase.BACKOFF), detail="exit status 1"))
    assert told == [web, web, web]
    stop()
    context.local.remove(web)
    assert told == [web, web, web]
    with pytest.raises(KeyError):
        await context.local.execute(web, ["true"], 1)


async def test_context_runs_what_was_spawned(tmp_path: Path) -> None:
    context = FakeContext(data_dir=tmp_path / "own")
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await context.clock.sleep(1)
            ticks.append(context.clock.monotonic())

    context.spawn("tick", tick)
    with pytest.raises(ValueError, match="tick"):
        context.spawn("tick", tick)
    async with context.running():
        await context.clock.advance(3)
    await context.clock.advance(3)
    assert ticks == [1001, 1002, 1003]
    assert context.data_dir.is_dir()
    context.hook_answers["zones"] = {"dns": 1}
    assert context.call_hook("zones", name="x") == {"dns": 1}
    assert context.hook_calls == [("zones", {"name": "x"})]
