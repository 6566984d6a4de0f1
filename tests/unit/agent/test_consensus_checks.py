"""What ``verify`` finds of consensus."""

from __future__ import annotations

import asyncio

import pytest

from constellation_core.agent.consensus.absent import AbsentConsensus
from constellation_core.agent.consensus.checks import ClockRates, consensus_checks
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.testing.consensus.memory import MemoryConsensus
from constellation_core.verify import VerifyResult


class Clocks:
    """Three clocks of a machine, by hand."""

    def __init__(self) -> None:
        self.boot = self.awake = self.raw = 100.0

    def rates(self) -> ClockRates:
        return ClockRates(lambda: self.boot, lambda: self.awake, lambda: self.raw)


async def check(
    name: str, backend: ConsensusBackend, rates: ClockRates | None = None
) -> VerifyResult:
    checks = consensus_checks(lambda: backend, rates or Clocks().rates())
    return await {each.name: each for each in checks}[name].run()


async def test_a_backend_of_any_kind_can_be_used_or_not() -> None:
    memory = MemoryConsensus()
    backend = memory.agent()
    assert (await check("consensus.quorum", backend)).status == "ok"
    memory.available = False
    result = await check("consensus.quorum", backend)
    assert (result.status, result.detail) == ("fail", "the test made consensus unavailable")
    for name in ("consensus.voters", "consensus.cluster"):
        assert (await check(name, backend)).status == "skip"


async def test_none_at_all_is_a_warning() -> None:
    result = await check("consensus.quorum", AbsentConsensus("for a reason"))
    assert (result.status, result.detail) == ("warn", "for a reason")


@pytest.mark.parametrize(
    ("boot", "awake", "raw", "status", "words"),
    [
        (30.0, 30.0, 30.0, "skip", "30 s"),
        (100.0, 100.0, 100.0, "ok", "0.000 %"),
        (100.05, 100.05, 100.0, "ok", "0.050 %"),
        (110.0, 110.0, 100.0, "fail", "+10.0 %"),
        (90.0, 90.0, 100.0, "fail", "-10.0 %"),
        (400.0, 100.0, 100.0, "warn", "slept for 300 s"),
    ],
)
async def test_the_rate_of_the_clock_and_sleep_are_noticed(
    boot: float, awake: float, raw: float, status: str, words: str
) -> None:
    clocks = Clocks()
    rates = clocks.rates()
    clocks.boot, clocks.awake, clocks.raw = 100 + boot, 100 + awake, 100 + raw
    result = await check("consensus.clock", AbsentConsensus(""), rates)
    assert (result.status, words in result.detail) == (status, True), result


async def test_the_machines_own_clocks_agree() -> None:
    rates = ClockRates()
    # Over microseconds a pause between two readings would look like a wrong rate.
    while (found := rates.look())[0] < 0.1:
        await asyncio.sleep(0.01)
    _, off, slept = found
    assert abs(off) < 0.9
    assert slept < 1
