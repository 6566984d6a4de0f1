"""Queues and delivery: order, coalescing, isolation of a slow or failing plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from constellation_core import Health, Instance, hookimpl
from constellation_core.plugins.delivery import EventDelivery
from constellation_core.plugins.events import COALESCE_ABOVE, EventQueue, PluginEvent
from constellation_core.plugins.manager import ERRORS_IN_A_ROW, PluginManager


def instance(number: int, health: Health) -> Instance:
    return Instance(f"web-{number}.a", "web", "a", "127.0.0.1", health=health)


def changed(now: Instance, before: Instance | None) -> PluginEvent:
    return PluginEvent(
        "instance_changed", ("instance", now.id), {"instance": now, "previous": before}
    )


async def drain(queue: EventQueue) -> list[PluginEvent]:
    return [await queue.get() for _ in range(len(queue))]


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(Health)), max_size=1500))
def test_queue_is_ordered_bounded_and_never_loses_the_last_word(
    steps: list[tuple[int, Health]],
) -> None:
    async def scenario() -> None:
        queue = EventQueue()
        state: dict[str, Instance] = {}
        published: list[PluginEvent] = []
        for number, health in steps:
            now = instance(number, health)
            published.append(changed(now, state.get(now.id)))
            state[now.id] = now
            queue.put(published[-1])
            assert len(queue) <= COALESCE_ABOVE + len(state)
        delivered = await drain(queue)
        heard: dict[str, Instance] = {}
        for event in delivered:
            now = event.arguments["instance"]
            assert event.arguments["previous"] == heard.get(now.id)
            heard[now.id] = now
        assert heard == state
        if len(published) <= COALESCE_ABOVE:
            assert delivered == published

    asyncio.run(scenario())


def test_a_health_change_that_was_undone_before_it_was_heard_is_not_told() -> None:
    well, ill = instance(1, Health.HEALTHY), instance(1, Health.UNHEALTHY)
    key = ("health", well.id)
    down = PluginEvent("health_changed", key, {"instance": ill, "previous": well})
    up = PluginEvent("health_changed", key, {"instance": well, "previous": ill})
    assert up.after(down) is None
    assert down.after(up) is None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def listener(function: Any) -> SimpleNamespace:
    return SimpleNamespace(instance_removed=hookimpl(function))


def removed(number: int) -> PluginEvent:
    gone = instance(number, Health.STOPPED)
    return PluginEvent("instance_removed", ("instance", gone.id), {"instance": gone})


async def test_a_stuck_plugin_delays_no_other_and_is_cut_off() -> None:
    heard: list[str] = []

    async def stuck(instance: Instance) -> None:
        await asyncio.Event().wait()

    manager = PluginManager()
    manager.register("stuck", listener(stuck))
    manager.register("quick", listener(lambda instance: heard.append(instance.id)))
    delivery = EventDelivery(manager, timeout=0.01)
    for name in manager.active:
        delivery.open(name)
    for number in range(ERRORS_IN_A_ROW):
        delivery.publish(removed(number))
    await until(lambda: len(heard) == ERRORS_IN_A_ROW)
    assert heard == [f"web-{number}.a" for number in range(ERRORS_IN_A_ROW)]
    await until(lambda: manager.active == ["quick"])
    assert "TimeoutError" in str(manager.states()[0].failed)
    await delivery.close()


async def test_a_plugin_that_raises_keeps_getting_events_until_it_is_taken_out() -> None:
    calls: list[str] = []

    def bad(instance: Instance) -> None:
        calls.append(instance.id)
        raise ValueError("no")

    manager = PluginManager()
    manager.register("bad", listener(bad))
    delivery = EventDelivery(manager)
    manager.on_failed = lambda name, reason: asyncio.ensure_future(delivery.drop(name))
    delivery.open("bad")
    for number in range(ERRORS_IN_A_ROW + 5):
        delivery.publish(removed(number))
    await until(lambda: not manager.active)
    await until(lambda: not delivery.backlog())
    assert len(calls) == ERRORS_IN_A_ROW
