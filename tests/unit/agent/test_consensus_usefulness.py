"""Whether consensus was of use lately."""

from __future__ import annotations

import pytest

from constellation_core.agent.consensus.usefulness import NotedAccess
from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import ConsensusError, NotLeader, Unavailable, Unknown
from constellation_core.consensus.state import Answer, Query, Space

QUERY = Query(Space.KEYS, "a", exact=True)


class Access:
    """Raises what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        self._raise()
        return b""

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        self._raise()
        return Renewal((), 1.0)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        self._raise()
        return Answer(1, True, ())


class Clock:
    """By hand."""

    now = 100.0

    def boottime(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class World:
    """An access, and what is noted of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.access = Access()
        self.noted = NotedAccess(self.access, self.clock)

    async def fail(self, error: ConsensusError) -> None:
        self.access.error = error
        with pytest.raises(type(error)):
            await self.noted.propose(b"", timeout=1)
        self.access.error = None


@pytest.mark.parametrize("error", [NotLeader(), Unavailable("no voter"), Unknown("no answer")])
async def test_a_failure_counts_for_a_while(error: ConsensusError) -> None:
    world = World()
    assert world.noted.trouble() is None
    await world.fail(error)
    assert world.noted.trouble() == str(error)
    world.clock.now += 29
    assert world.noted.trouble() == str(error)
    world.clock.now += 2
    assert world.noted.trouble() is None


async def test_the_next_success_takes_it_back() -> None:
    world = World()
    await world.fail(Unavailable("no voter"))
    await world.noted.renew((1,), timeout=1)
    assert world.noted.trouble() is None
    await world.fail(Unavailable("no voter"))
    await world.noted.query(QUERY, linearizable=True, wait=0, timeout=1)
    assert world.noted.trouble() is None


async def test_what_any_voter_answers_says_nothing_of_a_majority() -> None:
    world = World()
    await world.fail(Unavailable("no voter"))
    await world.noted.query(QUERY, linearizable=False, wait=0, timeout=1)
    assert world.noted.trouble() == "no voter"
    world.access.error = Unavailable("this voter is behind")
    world.clock.now += 100
    with pytest.raises(Unavailable):
        await world.noted.query(QUERY, linearizable=False, wait=0, timeout=1)
    assert world.noted.trouble() is None


async def test_a_mistake_of_the_caller_is_no_trouble() -> None:
    world = World()
    world.access.error = ValueError("too large")
    with pytest.raises(ValueError, match="too large"):
        await world.noted.propose(b"", timeout=1)
    assert world.noted.trouble() is None
