"""Changing the cluster's key while it runs: by Serf's own commands, and by hand."""

from __future__ import annotations

import asyncio
import re

import pytest

from constellation_core.gossip.serf import UserEvent
from tests.conformance.ours import Ours
from tests.conformance.peers import SerfPeer
from tests.conformance.programs import so, to_text
from tests.conformance.world import KEY, NEW_KEY, World, seed_of

pytestmark = pytest.mark.conformance


async def whole(ours: Ours, *peers: SerfPeer) -> None:
    """Fails the test unless everybody understands everybody, as of now."""
    names = {ours.name, *(peer.name for peer in peers)}
    trips = ours.gossip.protocol.stats.round_trips
    trips.clear()
    await so(lambda: set(trips) == names - {ours.name}, "ours to have probed all")
    assert ours.alive() == names
    for peer in peers:
        assert await peer.alive() == names
        await ours.join(seed_of(peer))
        await peer.join(ours.seed)
    ours.nothing_was_unreadable()


async def keys_of(peer: SerfPeer) -> dict[str, str]:
    """By key, on how many of the nodes ``serf keys -list`` finds it."""
    listed = await peer.command("keys", "-list")
    return dict(re.findall(r"^\s*(\S{44}) +\[(\d+/\d+)\]$", listed, re.MULTILINE))


async def test_serfs_key_commands_rotate_ours_too(serf_world: World) -> None:
    first, second = await serf_world.serf("first"), await serf_world.serf("second")
    ours = await serf_world.ours("ours", probe_interval=0.3)
    assert ours.keyring is not None
    await second.join(seed_of(first))
    await ours.join(seed_of(first))
    await whole(ours, first, second)
    assert await keys_of(first) == {to_text(KEY): "3/3"}

    await first.command("keys", f"-install={to_text(NEW_KEY)}")
    assert ours.keyring.keys == (KEY, NEW_KEY)
    await whole(ours, first, second)
    assert await keys_of(second) == {to_text(KEY): "3/3", to_text(NEW_KEY): "3/3"}

    await second.command("keys", f"-use={to_text(NEW_KEY)}")
    assert ours.keyring.keys == (NEW_KEY, KEY)
    await whole(ours, first, second)

    await first.command("keys", f"-remove={to_text(KEY)}")
    assert ours.keyring.keys == (NEW_KEY,)
    await whole(ours, first, second)
    assert await keys_of(first) == {to_text(NEW_KEY): "3/3"}

    event = UserEvent("after", b"the rotation")
    ours.serf.send_event(event)
    await first.until_event(event)
    await second.until_event(event)

    # Who has the new key comes in, who has the old one does not.
    serf_world.key = NEW_KEY
    late = await serf_world.ours("late")
    await late.join(ours.seed)
    await first.wait_for("late", "alive")
    serf_world.key = KEY
    stranger = await serf_world.ours("stranger")
    (result,) = await stranger.gossip.join([ours.seed])
    assert result.wrong_key


async def test_serf_is_told_why_ours_refuses(serf_world: World) -> None:
    peer, ours = await serf_world.serf("theirs"), await serf_world.ours("ours")
    await ours.join(seed_of(peer))
    await peer.wait_for("ours", "alive")
    told = await peer.command("keys", f"-use={to_text(NEW_KEY)}", may_fail=True)
    assert re.search(r"ours\s.*the key is not on the ring", told), told
    told = await peer.command("keys", f"-remove={to_text(KEY)}", may_fail=True)
    assert re.search(r"ours\s.*the key is in use", told), told
    assert ours.keyring is not None
    assert ours.keyring.keys == (KEY,)


async def test_a_rotation_by_hand_among_memberlist_nodes(go_world: World) -> None:
    peer, ours = await go_world.go("theirs"), await go_world.ours("ours", probe_interval=0.3)
    assert ours.keyring is not None
    await ours.join(seed_of(peer))
    await peer.wait_for("ours", "alive")

    async def understand(text: bytes) -> None:
        ours.gossip.send(ours.known("theirs"), text)
        await peer.until_message(text)
        await peer.send("ours", text)
        await so(lambda: text in ours.notes.messages, "its message")
        await ours.join(seed_of(peer))
        await peer.join(ours.seed)
        ours.nothing_was_unreadable()

    await peer.program.command("key", "add", to_text(NEW_KEY))
    await understand(b"they know both")
    ours.keyring.add(NEW_KEY)
    await understand(b"both know both")
    ours.keyring.use(NEW_KEY)
    await understand(b"ours uses the new one")
    await peer.program.command("key", "use", to_text(NEW_KEY))
    await understand(b"both use the new one")
    ours.keyring.remove(KEY)
    await understand(b"ours forgot the old one")
    await peer.program.command("key", "remove", to_text(KEY))
    await understand(b"all is done")
    async with asyncio.timeout(10):
        assert await peer.alive() == ours.alive() == {"ours", "theirs"}
