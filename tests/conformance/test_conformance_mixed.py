"""Thirty nodes, half of them ours, the others Serf's and the Go program's, for some time.

``CONSTELLATION_SOAK_SECONDS`` says for how long.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

import pytest

from constellation_core.gossip import EventKind
from constellation_core.gossip.serf import UserEvent
from constellation_core.model.node import NodeState
from tests.conformance.ours import Ours
from tests.conformance.peers import GoPeer, SerfPeer
from tests.conformance.programs import require_go, so
from tests.conformance.world import World, seed_of

pytestmark = pytest.mark.conformance

_SECONDS = float(os.environ.get("CONSTELLATION_SOAK_SECONDS", "60"))
_OURS, _SERFS, _GOS = 15, 8, 7
_LAN = {"probe_interval": 1.0, "probe_timeout": 0.5, "suspicion_multiplier": 4}
"""memberlist's settings for local networks, as all others have them. Every other node of ours has
our own, which are quicker to find somebody dead."""


@pytest.mark.timeout(240 + 2 * _SECONDS)
async def test_thirty_mixed_nodes_hold_together(serf_world: World) -> None:
    require_go()
    world = serf_world
    ours = [await world.ours(f"ours-{n}", **(_LAN if n % 2 else {})) for n in range(_OURS)]
    serfs = [await world.serf(f"serf-{n}") for n in range(_SERFS)]
    gos = [await world.go(f"go-{n}", "-delegate=5") for n in range(_GOS)]
    for node in ours[1:]:
        await node.join(ours[0].seed)
    for number, peer in enumerate([*serfs, *gos]):
        # In turns: one joins a node of ours, one is joined by one.
        if number % 2:
            await peer.join(ours[number].seed)
        else:
            await ours[number].join(seed_of(peer))
    names = {node.name for node in ours} | {peer.name for peer in (*serfs, *gos)}
    assert len(names) == _OURS + _SERFS + _GOS
    started = time.monotonic()
    await all_see(names, ours, serfs, gos)
    full_after = time.monotonic() - started

    end = time.monotonic() + _SECONDS
    rounds = 0
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 5.0))
        rounds += 1
        event = UserEvent(f"round-{rounds}", b"x" * 100)
        ours[rounds % _OURS].serf.send_event(event)
        # Gossip reaches nearly all: of some 180 copies, each of 29 nodes gets eight on average, and
        # one node in a few hundred none. That most have it shows that it travels.
        await so(
            lambda event=event: sum(event in serf.heard() for serf in serfs) > _SERFS // 2,
            f"most Serf nodes to hear {event.name}",
        )
        for node in ours:
            assert set(node.alive()) | suspects(node) == names, node.name

    no_failures(ours, serfs, gos)
    suspected = sum(
        event.member.state is NodeState.SUSPECT for node in ours for event in node.notes.events
    )
    stalls = sum(node.gossip.protocol.stats.stalls for node in ours)
    print(  # noqa: T201
        f"{len(names)} nodes: full view after {full_after:.1f} s, {_SECONDS:g} s without a "
        f"failure; ours saw {suspected} suspicions, and stood still {stalls} times"
    )
    for node in ours:
        node.nothing_was_unreadable()

    # And those that are gone are noticed by all, whoever they are.
    victims = [serfs.pop(), gos.pop()]
    for peer in victims:
        await peer.kill()
    await ours[-1].gossip.close()
    gone = {ours.pop().name, *(peer.name for peer in victims)}
    await all_see(names - gone, ours, serfs, gos)


def suspects(node: Ours) -> set[str]:
    return {m.name for m in node.gossip.members() if m.state is NodeState.SUSPECT}


async def all_see(
    names: set[str], ours: Sequence[Ours], serfs: Sequence[SerfPeer], gos: Sequence[GoPeer]
) -> None:
    """Wait until everybody holds just these to be alive."""
    for node in ours:
        await so(lambda node=node: node.alive() == names, f"{node.name} to see all", 60.0)
    for peer in (*serfs, *gos):
        async with asyncio.timeout(60):
            while await peer.alive() != names:
                await asyncio.sleep(0.2)


def no_failures(ours: Sequence[Ours], serfs: Sequence[SerfPeer], gos: Sequence[GoPeer]) -> None:
    """Fails the test when anybody held anybody to be failed, since it began."""
    for node in ours:
        kinds = {event.kind for event in node.notes.events}
        assert not kinds & {EventKind.FAILED, EventKind.LEFT}, node.name
    for serf in serfs:
        assert "EventMemberFailed" not in serf.log(), serf.name
    for go in gos:
        assert go.program.said("leave") == [], go.name
