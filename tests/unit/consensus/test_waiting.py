"""Waiting for changes at a voter, together with many others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

import pytest

from constellation_core.consensus.interface import Unavailable
from constellation_core.consensus.state import Query, Space
from constellation_core.consensus.state.operations import OpenSession, Put, RequestId, encode
from constellation_core.consensus.waiting import Waiting
from constellation_core.testing.consensus.group import SimulatedGroup, SimulatedHost, SimulatedVoter
from constellation_core.testing.virtual_loop import run_virtual

T = TypeVar("T")


class Site:
    """One voter, whose readings are counted."""

    def __init__(self) -> None:
        group = SimulatedGroup(Random(1), {"v1": SimulatedHost()})
        group.elect("v1")
        self.voter: SimulatedVoter = group.voters["v1"]
        self.readings = 0
        self.waiting = Waiting(self.voter, self.voter.state)
        read = self.voter.read

        async def counted(query: Callable[[], T]) -> T:
            self.readings += 1
            return await read(query)

        self.voter.read = counted  # type: ignore[method-assign]
        self._sequence = 0

    async def put(self, key: str) -> int:
        """The state's revision since."""
        if self._sequence == 0:
            await self.voter.propose(encode(OpenSession()), timeout=1)
        self._sequence += 1
        request = RequestId(1, self._sequence, self._sequence)
        await self.voter.propose(encode(Put(key, b""), request), timeout=1)
        return self.voter.state.revision


def run(scenario: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await scenario(Site())

    run_virtual(main())


def keys(name: str, after: int | None) -> Query:
    return Query(Space.KEYS, name, exact=True, after=after)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_each_is_told_what_it_waits_for_and_nothing_else() -> None:
    async def scenario(site: Site) -> None:
        revision = await site.put("warm-up")
        waiting = {
            name: asyncio.create_task(site.waiting.wait(keys(name, revision), 60))
            for name in ("a", "b")
        }
        await asyncio.sleep(1)
        before = now()
        changed = await site.put("a")
        answer = await waiting["a"]
        assert now() - before < 1
        assert [entry.key for entry in answer.entries] == ["a"]
        assert answer.revision == changed
        assert not waiting["b"].done()
        answer = await waiting["b"]
        assert not answer.entries
        # So that it does not ask for the same again.
        assert answer.revision == changed
        assert now() == pytest.approx(60, abs=1)

    run(scenario)


def test_what_changed_before_is_told_at_once() -> None:
    async def scenario(site: Site) -> None:
        first = await site.put("a")
        await site.put("b")
        before = now()
        answer = await site.waiting.wait(keys("b", first), 60)
        assert [entry.key for entry in answer.entries] == ["b"]
        # Who saw more elsewhere than this voter knows waits.
        answer = await site.waiting.wait(keys("b", 1000), 5)
        assert not answer.entries
        assert now() - before == pytest.approx(5, abs=0.1)

    run(scenario)


def test_a_change_is_looked_at_once_for_all() -> None:
    async def scenario(site: Site) -> None:
        revision = await site.put("warm-up")
        waiting = [
            asyncio.create_task(site.waiting.wait(keys(f"k{n}", revision), 60)) for n in range(500)
        ]
        await asyncio.sleep(1)
        before = site.readings
        for number in range(20):
            await site.put(f"k{number}")
            await asyncio.sleep(0.1)
        assert site.readings - before == 20
        assert sum(task.done() for task in waiting) == 20
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        # Nobody waits, nobody looks.
        before = site.readings
        await site.put("more")
        await asyncio.sleep(1)
        assert site.readings == before

    run(scenario)


def test_what_is_applied_during_the_first_reading_is_not_missed() -> None:
    async def scenario(site: Site) -> None:
        revision = await site.put("warm-up")
        site.voter.host.pause()
        waiting = asyncio.create_task(site.waiting.wait(keys("a", revision), 60))
        await asyncio.sleep(0)
        site.voter.host.resume()
        await site.put("a")
        assert (await waiting).entries
        assert now() < 1

    run(scenario)


def test_a_voter_that_fails_says_so_to_all() -> None:
    async def scenario(site: Site) -> None:
        revision = await site.put("warm-up")
        waiting = [
            asyncio.create_task(site.waiting.wait(keys("a", revision), 60)) for _ in range(3)
        ]
        await asyncio.sleep(1)
        write = asyncio.create_task(site.put("b"))
        site.voter.up = False
        with pytest.raises(Unavailable):
            await write
        site.voter._tell()
        for task in waiting:
            with pytest.raises(Unavailable):
                await task
        with pytest.raises(Unavailable):
            await site.waiting.wait(keys("a", revision), 60)

    run(scenario)
