"""Joining, agreeing on who is there and what is said of them, push/pull, and leaving."""

from __future__ import annotations

import pytest

from constellation_core.gossip import encode_tags
from constellation_core.model.node import NodeState
from tests.conformance.ours import Ours
from tests.conformance.peers import GoPeer, Peer, SerfPeer
from tests.conformance.programs import so, to_text
from tests.conformance.world import World, seed_of

pytestmark = pytest.mark.conformance


async def agree(ours: Ours, peer: Peer, *others: Ours) -> None:
    """Fails the test unless all of them soon hold just all of them to be alive."""
    everybody = {ours.name, peer.name, *(other.name for other in others)}
    for node in (ours, *others):
        await so(lambda node=node: node.alive() == everybody, f"{node.name} to know all")
        await peer.wait_for(node.name, "alive")
        node.nothing_was_unreadable()
    assert await peer.alive() == everybody


async def test_ours_joins_theirs(world: World) -> None:
    peer, ours = await world.peer("theirs"), await world.ours("ours")
    await ours.join(seed_of(peer))
    await agree(ours, peer)


async def test_theirs_joins_ours(world: World) -> None:
    peer, ours = await world.peer("theirs"), await world.ours("ours")
    await peer.join(ours.seed)
    await agree(ours, peer)


async def test_three_nodes_learn_of_each_other_through_the_one_in_the_middle(world: World) -> None:
    first, peer, last = (
        await world.ours("first"),
        await world.peer("theirs"),
        await world.ours("last"),
    )
    await peer.join(first.seed)
    await last.join(seed_of(peer))
    await agree(first, peer, last)
    # Not only what the middle told: they have reached each other.
    stats = last.gossip.protocol.stats
    await so(lambda: set(stats.round_trips) == {"first", "theirs"}, "both to have been probed")


async def test_addresses_and_versions_are_told_truly(world: World) -> None:
    peer, ours = await world.peer("theirs"), await world.ours("ours")
    await ours.join(seed_of(peer))
    theirs = ours.known("theirs")
    assert theirs.address == (peer.place.host, peer.place.port)
    assert theirs.versions[:3] == bytes((1, 5, 2))
    await peer.wait_for("ours", "alive")
    assert isinstance(peer, GoPeer | SerfPeer)
    told = (await peer.members())["ours"]
    address = ours.gossip.local.address
    if isinstance(peer, GoPeer):
        assert (told["addr"], told["port"]) == address
        assert bytes(told["vsn"]) == ours.gossip.local.versions
    else:
        host, _, port = told["addr"].rpartition(":")
        assert (host.strip("[]"), int(port)) == address
        assert (told["protocol"]["min"], told["protocol"]["max"]) == (2, 5)


async def test_metadata_both_ways_and_changed_while_running(world: World) -> None:
    tags = {"role": "first", "zone": "north"}
    peer = await world.peer("theirs", flags=(f"-meta={to_text(encode_tags(tags))}",), tags=tags)
    ours = await world.ours("ours")
    await ours.join(seed_of(peer))
    assert ours.known("theirs").tags == tags
    await peer.wait_for("ours", "alive")

    async def at_peer() -> object:
        told = await peer.metadata("ours")
        return told if isinstance(told, dict) else (bytes(told) == ours.gossip.local.meta)

    assert await at_peer() in (True, {"role": "role of ours"})

    ours.gossip.set_meta(encode_tags({"role": "changed", "unit": "ü"}))
    for _ in range(100):
        if await at_peer() in (True, {"role": "changed", "unit": "ü"}):
            break
    else:
        pytest.fail(f"theirs still knows {await at_peer()}")

    changed = {"role": "second", "zone": "north"}
    if isinstance(peer, SerfPeer):
        await peer.command("tags", "-set=role=second")
    elif isinstance(peer, GoPeer):
        await peer.program.command("meta", to_text(encode_tags(changed)))
    await so(lambda: ours.known("theirs").tags == changed, "ours to know the new metadata")


async def test_push_pull_carries_user_state_both_ways(world: World) -> None:
    state = bytes(range(256)) * 20
    peer = await world.peer("theirs", flags=(f"-state={to_text(state)}",))
    ours = await world.ours("ours")
    ours.notes.state = b"state of ours"
    if isinstance(peer, SerfPeer):
        for _ in range(3):
            ours.serf.events.next()
        await peer.command("query", "-timeout=100ms", "-no-ack", "whatever")
        assert (ours.serf.events.time, ours.serf.queries.time) == (4, 1)
    await ours.join(seed_of(peer))
    if isinstance(peer, GoPeer):
        assert ours.notes.states == [state]
        await peer.program.until("state", data=to_text(b"state of ours"), join=True)
        await peer.join(ours.seed)
        await so(lambda: len(ours.notes.states) == 2, "its state in a request")
        states = peer.program.said("state", data=to_text(b"state of ours"))
        assert [line["join"] for line in states][:2] == [True, True]
    elif isinstance(peer, SerfPeer):
        # Each takes over the clock that was ahead.
        told = await peer.command("info")
        assert "event_time = 4" in told
        assert "query_time = 2" in told
        assert (ours.serf.events.time, ours.serf.queries.time) == (4, 2)
        ours.nothing_was_unreadable()


async def test_theirs_leaves(world: World) -> None:
    peer, ours = await world.peer("theirs"), await world.ours("ours")
    await ours.join(seed_of(peer))
    await peer.wait_for("ours", "alive")
    await peer.leave()
    await ours.wait_for("theirs", NodeState.LEFT)
    assert [event.kind for event in ours.notes.events] == ["joined", "left"]


async def test_ours_leaves(world: World) -> None:
    peer, ours = await world.peer("theirs"), await world.ours("ours")
    await ours.join(seed_of(peer))
    await peer.wait_for("ours", "alive")
    if world.is_serf:
        ours.serf.announce_leave()
    await ours.gossip.leave()
    await peer.wait_for("ours", "left")


async def test_who_left_comes_back_from_another_address(world: World) -> None:
    peer, ours = await world.peer("theirs"), await world.ours("ours")
    await ours.join(seed_of(peer))
    await peer.wait_for("ours", "alive")
    if world.is_serf:
        ours.serf.announce_leave()
    await ours.gossip.leave()
    await peer.wait_for("ours", "left")
    await ours.gossip.close()
    again = await world.ours("ours")
    assert again.gossip.local.address != ours.gossip.local.address
    await again.join(seed_of(peer))
    await peer.wait_for("ours", "alive")
    if world.is_serf:
        again.serf.announce_leave()
    await again.gossip.leave()
    await peer.wait_for("ours", "left")


async def test_serf_shows_who_left_as_failed_without_the_word_that_serf_wants(
    serf_world: World,
) -> None:
    # Why the delegate for Serf is there: memberlist's own goodbye is not enough for Serf.
    peer, ours = await serf_world.peer("theirs"), await serf_world.ours("ours")
    await ours.join(seed_of(peer))
    await peer.wait_for("ours", "alive")
    await ours.gossip.leave()
    await peer.wait_for("ours", "failed")


async def test_another_key_stays_out_and_is_named(encrypted_world: World) -> None:
    peer, ours = await encrypted_world.peer("theirs"), await encrypted_world.ours("ours")
    encrypted_world.key = b"another key".ljust(32)
    stranger = await encrypted_world.ours("stranger")
    for target in (seed_of(peer), ours.seed):
        (result,) = await stranger.gossip.join([target])
        assert not result.joined
    assert result.wrong_key
    assert stranger.alive() == {"stranger"}
    assert ours.alive() == {"ours"}
    assert await peer.alive() == {"theirs"}
