"""The monitor as a whole, under a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from constellation_core import ExecCheck, Health, Restart, Service
from constellation_core.runtime import Phase
from constellation_core.testing.context import FakeContext
from constellation_plugin_monitor.config import MonitorConfig
from constellation_plugin_monitor.runner import Monitor


class Bench:
    """A monitor of one instance whose check answers as the test says."""

    def __init__(self, *, heal: bool = True, **check: float) -> None:
        self.well = True
        self.attempts = 0
        self.context = FakeContext("monitor")
        settings = {"interval": 10.0, "fall": 2, **check}
        service = Service(
            "web",
            command=("x",),
            check=ExecCheck(("is-well",), **settings),  # type: ignore[arg-type]
            restart=Restart(delay=4, max_delay=100, crash_loop_after=3),
        )
        self.id = self.context.local.add(service)
        self.context.local.on_execute = self._execute
        self.monitor = Monitor(self.context, MonitorConfig(restart=heal), Random(1))
        self.context.spawn("checks", self.monitor.run)

    def _execute(self, _id: str, _command: Sequence[str], _timeout: float) -> tuple[int, str]:
        self.attempts += 1
        return (0, "") if self.well else (1, "sick")

    @property
    def health(self) -> Health | None:
        reports = self.context.local.reports
        return reports[-1][1] if reports else None

    def started_again(self) -> None:
        status = self.context.local.status(self.id)
        now = self.context.clock.monotonic()
        self.context.local.set_status(self.id, replace(status, started_at=now))


async def test_it_reports_and_restarts_and_sees_it_get_well() -> None:
    bench = Bench()
    advance = bench.context.clock.advance
    async with bench.context.running():
        await advance(1)
        assert bench.health is Health.HEALTHY
        bench.well = False
        await advance(11.1)
        assert bench.health is Health.HEALTHY
        await advance(11.1)
        assert bench.health is Health.UNHEALTHY
        assert bench.context.local.restarts == []
        await advance(5)
        assert bench.context.local.restarts == [
            ("web.node-a", "unhealthy: is-well exited with 1: sick")
        ]
        bench.started_again()
        bench.well = True
        await advance(12)
        assert bench.health is Health.HEALTHY
        await advance(60)
        assert len(bench.context.local.restarts) == 1


async def test_it_gets_well_before_the_restart_and_is_left_alone() -> None:
    bench = Bench(interval=1)
    advance = bench.context.clock.advance
    async with bench.context.running():
        await advance(0.5)
        bench.well = False
        await advance(2.6)
        assert bench.health is Health.UNHEALTHY
        bench.well = True
        await advance(60)
        assert bench.context.local.restarts == []


async def test_healing_can_be_turned_off() -> None:
    bench = Bench(heal=False)
    bench.well = False
    async with bench.context.running():
        await bench.context.clock.advance(200)
    assert bench.health is Health.UNHEALTHY
    assert bench.context.local.restarts == []


async def test_what_does_not_run_is_not_checked() -> None:
    bench = Bench()
    status = bench.context.local.status(bench.id)
    bench.context.local.set_status(bench.id, replace(status, phase=Phase.BACKOFF))
    async with bench.context.running():
        await bench.context.clock.advance(100)
        assert bench.attempts == 0
        bench.context.local.set_status(bench.id, status)
        await bench.context.clock.advance(12)
        assert bench.attempts > 0


async def test_an_instance_that_goes_and_one_that_comes() -> None:
    bench = Bench()
    async with bench.context.running():
        await bench.context.clock.advance(1)
        bench.context.local.remove(bench.id)
        await bench.context.clock.advance(30)
        before = bench.attempts
        other = Service("api", command=("x",), check=ExecCheck(("is-well",)))
        bench.context.local.add(other)
        await bench.context.clock.advance(1)
        assert bench.attempts == before + 1
        assert bench.context.local.reports[-1][0] == "api.node-a"
