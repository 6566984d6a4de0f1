"""Nodes that are killed or paused, and names that two claim.

Each scenario is played in four clusters at the same time: encrypted and not, over IPv4 and IPv6.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import pytest

from constellation_core.gossip import EventKind
from constellation_core.model.node import NodeState
from tests.conformance.programs import so
from tests.conformance.world import Scenario, World, seed_of

pytestmark = pytest.mark.conformance

Play = Callable[[Scenario], Awaitable[None]]


async def test_theirs_is_killed(in_all_worlds: Play) -> None:
    async def scenario(world: World) -> None:
        peer, ours = await world.peer("theirs"), await world.ours("ours", quick=True)
        await ours.join(seed_of(peer))
        await peer.wait_for("ours", "alive")
        await peer.kill()
        await ours.wait_for("theirs", NodeState.DEAD)
        assert [e.kind for e in ours.notes.events if e.kind is not EventKind.UPDATED] == [
            EventKind.JOINED,
            EventKind.FAILED,
        ]

    await in_all_worlds(scenario)


async def test_ours_is_killed(in_all_worlds: Play) -> None:
    async def scenario(world: World) -> None:
        peer = await world.peer("theirs", quick=True)
        ours = await world.our_program("ours", peer)
        await peer.wait_for("ours", "alive")
        await ours.kill()
        await peer.wait_for("ours", "failed")
        assert await peer.alive() == {"theirs"}

    await in_all_worlds(scenario)


async def test_theirs_refutes_its_death_after_a_pause(in_all_worlds: Play) -> None:
    async def scenario(world: World) -> None:
        peer, ours = await world.peer("theirs"), await world.ours("ours", quick=True)
        await ours.join(seed_of(peer))
        await peer.wait_for("ours", "alive")
        before = ours.known("theirs").incarnation
        peer.signal(signal.SIGSTOP)
        await ours.wait_for("theirs", NodeState.DEAD)
        peer.signal(signal.SIGCONT)
        after = await ours.wait_for("theirs", NodeState.ALIVE)
        assert after.incarnation > before
        await peer.wait_for("ours", "alive")

    await in_all_worlds(scenario)


async def test_theirs_refutes_a_suspicion_after_a_short_pause(in_all_worlds: Play) -> None:
    async def scenario(world: World) -> None:
        # So generous that a suspect has the time to object.
        peer = await world.peer("theirs")
        ours = await world.ours("ours", quick=True, suspicion_multiplier=100)
        await ours.join(seed_of(peer))
        before = ours.known("theirs").incarnation
        peer.signal(signal.SIGSTOP)
        await ours.wait_for("theirs", NodeState.SUSPECT)
        peer.signal(signal.SIGCONT)
        after = await ours.wait_for("theirs", NodeState.ALIVE)
        assert after.incarnation > before
        assert EventKind.FAILED not in [event.kind for event in ours.notes.events]

    await in_all_worlds(scenario)


async def test_ours_refutes_its_death_after_a_pause(in_all_worlds: Play) -> None:
    async def scenario(world: World) -> None:
        peer = await world.peer("theirs", quick=True)
        ours = await world.our_program("ours", peer)
        await peer.wait_for("ours", "alive")
        ours.signal(signal.SIGSTOP)
        await peer.wait_for("ours", "failed")
        ours.signal(signal.SIGCONT)
        await peer.wait_for("ours", "alive")
        # Who slept must not think that the others were gone.
        assert not ours.said("failed"), ours.lines

    await in_all_worlds(scenario)


async def test_theirs_refuses_a_name_that_it_knows_from_elsewhere(in_all_worlds: Play) -> None:
    async def scenario(world: World) -> None:
        peer, first = await world.peer("theirs"), await world.ours("twin")
        await first.join(seed_of(peer))
        await peer.wait_for("twin", "alive")
        second = await world.ours("twin")
        await second.join(seed_of(peer))

        async def refused() -> bool:
            return await peer.conflicts("twin") > 0

        assert await refused()
        address = first.gossip.local.address
        # The claimant finds out as well, and which address has the name.
        conflicts = [e for e in second.notes.events if e.kind is EventKind.CONFLICT]
        assert conflicts
        assert conflicts[0].member.address == address
        # The first one keeps its place.
        assert first.alive() == {"twin", "theirs"}
        third = await world.ours("third")
        await third.join(seed_of(peer))
        assert third.known("twin").address == address

    await in_all_worlds(scenario)


async def test_ours_refuses_a_name_that_it_knows_from_elsewhere(in_all_worlds: Play) -> None:
    async def scenario(world: World) -> None:
        ours, first = await world.ours("ours"), await world.ours("twin")
        await first.join(ours.seed)
        await so(lambda: ours.alive() == {"ours", "twin"}, "ours to know the first")
        second = await world.peer("twin")
        await second.join(ours.seed)
        (conflict,) = [e for e in ours.notes.events if e.kind is EventKind.CONFLICT][:1]
        assert conflict.member.address == (second.place.host, second.place.port)
        assert conflict.previous is not None
        assert conflict.previous.address == first.gossip.local.address
        assert ours.known("twin").address == first.gossip.local.address
        assert ours.known("twin").state is NodeState.ALIVE

    await in_all_worlds(scenario)
