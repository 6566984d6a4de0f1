"""The instances of one node: started, judged, published, replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core import Health, Instance, Port, PublishedService, Route, Service, TCPCheck
from constellation_core.runtime import DriverEvents, InstanceSpec, LogLine, Phase, RuntimeStatus
from constellation_core.workloads.judgement import Verdict, judge
from constellation_core.workloads.local import LocalWorkloads


class Driver:
    """Runs nothing; the test says what became of it."""

    def __init__(self, name: str = "fake", *, refuses: str | None = None) -> None:
        self.name = name
        self.refuses = refuses
        self.calls: list[str] = []
        self.fails: dict[str, Exception] = {}
        self._events: DriverEvents | None = None

    def accepts(self, service: Service) -> str | None:
        return self.refuses

    def attach(self, events: DriverEvents) -> None:
        self._events = events

    async def start(self, spec: InstanceSpec) -> None:
        self.calls.append(f"start {spec.id}")
        if spec.id in self.fails:
            raise self.fails[spec.id]

    async def stop(self, instance_id: str) -> None:
        self.calls.append(f"stop {instance_id}")

    async def restart(self, instance_id: str, reason: str) -> None:
        self.calls.append(f"restart {instance_id}: {reason}")

    def status(self, instance_id: str) -> RuntimeStatus | None:
        return None

    async def execute(
        self, instance_id: str, command: Sequence[str], timeout: float
    ) -> tuple[int, str]:
        return 0, " ".join(command)

    async def logs(self, instance_id: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        yield LogLine(0.0, "stdout", "hello")

    async def close(self) -> None:
        self.calls.append("close")

    def tell(self, instance_id: str, phase: Phase = Phase.RUNNING, **more: Any) -> None:
        assert self._events is not None
        self._events.status_changed(instance_id, RuntimeStatus(phase, {"http": 80}, **more))


class Published:
    """What the fleet was told."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.services: dict[str, PublishedService] = {}

    def publish_instance(self, instance: Instance) -> None:
        self.instances[instance.id] = instance

    def withdraw_instance(self, instance_id: str) -> None:
        del self.instances[instance_id]

    def publish_service(self, service: PublishedService) -> None:
        self.services[service.name] = service

    def withdraw_service(self, name: str) -> None:
        del self.services[name]


def bench(*drivers: Driver) -> tuple[LocalWorkloads, Published]:
    published = Published()
    workloads = LocalWorkloads("node-a", "10.0.0.1", "example.com", published)
    for driver in drivers:
        workloads.add_driver(driver)
    return workloads, published


def service(name: str = "web", command: str = "x", **settings: Any) -> Service:
    return Service(name, command=(command,), ports=(Port("http"),), **settings)


async def test_an_instance_is_published_as_its_driver_and_its_check_see_it() -> None:
    driver = Driver()
    workloads, published = bench(driver)
    await workloads.apply([service(check=TCPCheck(), weight=3, tags=("blue",))])
    driver.tell("web.node-a")
    instance = published.instances["web.node-a"]
    assert (instance.health, instance.ports, instance.weight) == (Health.STARTING, {"http": 80}, 3)
    assert instance.address == "10.0.0.1"
    workloads.report_health("web.node-a", Health.HEALTHY)
    assert published.instances["web.node-a"].health is Health.HEALTHY
    workloads.report_health("web.node-a", Health.UNHEALTHY, "refused")
    assert published.instances["web.node-a"].reason == "refused"
    driver.tell("web.node-a", Phase.BACKOFF, detail="exited")
    assert published.instances["web.node-a"].health is Health.UNHEALTHY
    await workloads.close()
    assert published.instances == {}
    assert published.services == {}
    assert driver.calls == ["start web.node-a", "stop web.node-a", "close"]


async def test_apply_changes_only_what_differs() -> None:
    driver = Driver()
    workloads, published = bench(driver)
    await workloads.apply([service("a"), service("b"), service("c")])
    driver.calls.clear()
    await workloads.apply([service("a"), service("b", "y"), service("d")])
    assert sorted(driver.calls) == [
        "start b.node-a",
        "start d.node-a",
        "stop b.node-a",
        "stop c.node-a",
    ]
    assert set(published.services) == {"a", "b", "d"}
    assert list(workloads.ids()) == ["a.node-a", "b.node-a", "d.node-a"]


async def test_a_service_that_no_driver_takes_costs_only_itself() -> None:
    workloads, published = bench(Driver("picky", refuses="it has no image"))
    await workloads.apply([service("a")])
    assert "it has no image" in workloads.refused["a"]
    assert published.instances == {}


async def test_a_driver_that_raises_costs_only_that_service() -> None:
    driver = Driver()
    driver.fails["a.node-a"] = RuntimeError("no such program")
    workloads, published = bench(driver)
    await workloads.apply([service("a"), service("b")])
    assert "no such program" in workloads.refused["a"]
    driver.tell("b.node-a")
    assert set(published.instances) == {"b.node-a"}
    driver.fails.clear()
    await workloads.apply([service("a"), service("b")])
    assert dict(workloads.refused) == {}


async def test_a_route_that_the_domain_makes_too_long_costs_only_its_service() -> None:
    driver = Driver()
    published = Published()
    workloads = LocalWorkloads("node-a", "10.0.0.1", f"{'x' * 60}.example.com", published)
    workloads.add_driver(driver)
    long = Route(".".join(["a" * 60] * 3) + ".{domain}")
    await workloads.apply([service("long", routes=(long,)), service("web")])
    assert "at most 253 characters" in workloads.refused["long"]
    assert list(workloads.ids()) == ["web.node-a"]


async def test_the_driver_that_is_named_is_taken() -> None:
    one, two = Driver("one"), Driver("two")
    workloads, _ = bench(one, two)
    await workloads.apply([service("a", driver="two"), service("b"), service("c", driver="no")])
    assert two.calls == ["start a.node-a"]
    assert one.calls == ["start b.node-a"]
    assert "no" in workloads.refused["c"]
    with pytest.raises(ValueError, match="already"):
        workloads.add_driver(Driver("one"))


async def test_restart_execute_and_logs_reach_the_driver() -> None:
    driver = Driver()
    workloads, _ = bench(driver)
    await workloads.apply([service()])
    await workloads.restart("web.node-a", "asked")
    assert driver.calls[-1] == "restart web.node-a: asked"
    assert await workloads.execute("web.node-a", ["a", "b"], 1) == (0, "a b")
    lines = [line.text async for line in workloads.logs("web.node-a", tail=1, follow=False)]
    assert lines == ["hello"]
    with pytest.raises(KeyError):
        await workloads.restart("no.node-a", "asked")


async def test_listeners_hear_of_changes_until_they_end() -> None:
    driver = Driver()
    workloads, _ = bench(driver)
    heard: list[str] = []
    end = workloads.subscribe(heard.append)
    await workloads.apply([service()])
    driver.tell("web.node-a")
    assert heard
    end()
    before = len(heard)
    driver.tell("web.node-a", Phase.BACKOFF)
    assert len(heard) == before


async def test_a_new_start_forgets_the_verdict_about_the_last_one() -> None:
    driver = Driver()
    workloads, published = bench(driver)
    await workloads.apply([service(check=TCPCheck())])
    driver.tell("web.node-a", started_at=1.0)
    workloads.report_health("web.node-a", Health.HEALTHY)
    driver.tell("web.node-a", started_at=2.0, restarts=1)
    assert published.instances["web.node-a"].health is Health.STARTING


STATUSES = st.builds(
    RuntimeStatus,
    st.sampled_from(Phase),
    crash_looping=st.booleans(),
    driver_health=st.booleans(),
    detail=st.text(max_size=5),
)
VERDICTS = st.none() | st.builds(
    Verdict, st.sampled_from([Health.HEALTHY, Health.UNHEALTHY, Health.CRASH_LOOPING])
)


@given(STATUSES, st.booleans(), VERDICTS)
def test_healthy_is_only_what_runs_and_passes(
    status: RuntimeStatus, checked: bool, verdict: Verdict | None
) -> None:
    found = judge(status, checked=checked, verdict=verdict)
    assert found.health is not Health.UNREACHABLE
    if found.health is Health.HEALTHY:
        assert status.phase is Phase.RUNNING
        assert verdict is None or verdict.health is Health.HEALTHY
        assert not (checked and verdict is None)
    else:
        assert found.reason or verdict is not None


class BrokenDriver(Driver):
    """Raises what a driver should not, and where it should not."""

    def accepts(self, service: Service) -> str | None:
        if service.name == "unclear":
            raise ZeroDivisionError("no idea")
        return None

    async def stop(self, instance_id: str) -> None:
        raise KeyError(instance_id)

    async def close(self) -> None:
        raise SystemExit("on purpose")


async def test_a_driver_that_raises_anything_costs_only_the_service() -> None:
    driver = BrokenDriver()
    driver.fails["bad.node-a"] = ValueError("not mine")
    workloads, published = bench(driver)
    await workloads.apply([service("bad"), service("unclear"), service("good")])
    assert workloads.ids() == ["good.node-a"]
    assert workloads.refused["bad"] == "ValueError: not mine"
    assert "ZeroDivisionError: no idea" in workloads.refused["unclear"]
    await workloads.apply([service("good", "other")])
    assert workloads.service("good.node-a").command == ("other",)
    await workloads.close()
    assert not published.services


async def test_what_is_no_driver_is_refused() -> None:
    workloads, _ = bench()
    with pytest.raises(TypeError, match="str is not a RuntimeDriver"):
        workloads.add_driver("driver")  # type: ignore[arg-type]


async def test_a_listener_that_raises_harms_nobody() -> None:
    driver = Driver()
    workloads, published = bench(driver)
    heard: list[str] = []

    def bad(instance_id: str) -> None:
        raise ValueError(instance_id)

    workloads.subscribe(bad)
    workloads.subscribe(heard.append)
    await workloads.apply([service()])
    driver.tell("web.node-a")
    assert heard
    assert published.instances["web.node-a"].health is Health.HEALTHY
    await workloads.close()


async def test_nothing_is_started_after_the_end() -> None:
    driver = Driver()
    workloads, _ = bench(driver)
    await workloads.close()
    await workloads.apply([service()])
    assert driver.calls == ["close"]


class Choosy(Published):
    """Takes nothing of services whose name begins with ``bad``."""

    def publish_service(self, service: PublishedService) -> None:
        if service.name.startswith("bad"):
            raise ValueError("too large")
        super().publish_service(service)

    def publish_instance(self, instance: Instance) -> None:
        if instance.tags:
            raise ValueError("too many tags")
        super().publish_instance(instance)


async def test_what_cannot_be_made_known_costs_only_itself() -> None:
    driver, published = Driver(), Choosy()
    workloads = LocalWorkloads("node-a", "10.0.0.1", "example.com", published)
    workloads.add_driver(driver)
    await workloads.apply([service("bad"), service("good"), service("tagged", tags=("x",))])
    assert workloads.refused == {"bad": "too large"}
    driver.tell("good.node-a")
    driver.tell("tagged.node-a")
    assert set(published.instances) == {"good.node-a"}
    assert driver.calls == ["start good.node-a", "start tagged.node-a"]


async def test_who_is_reached_elsewhere_publishes_its_instances_anew() -> None:
    driver = Driver()
    workloads, published = bench(driver)
    await workloads.apply([service()])
    driver.tell("web.node-a")
    workloads.move("10.0.0.9")
    assert published.instances["web.node-a"].address == "10.0.0.9"
    await workloads.close()
