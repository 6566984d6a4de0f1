"""User messages over UDP and TCP, and the ways in which they are wrapped."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from constellation_core.gossip import lzw
from constellation_core.gossip.messages import MessageType
from constellation_core.gossip.serf import UserEvent
from constellation_core.model.node import NodeState
from constellation_core.testing.free_ports import PortPicker
from tests.conformance.lzw_inputs import lzw_inputs
from tests.conformance.ours import Ours
from tests.conformance.peers import GoPeer, Peer, SerfPeer
from tests.conformance.programs import compressed_by_go, require_go, so, to_text
from tests.conformance.world import Terms, World, seed_of, world_of

pytestmark = pytest.mark.conformance

ANY_BYTES = bytes(range(256)) * 4
WORDS = b"the same words again and again, " * 30
"""Gets much smaller when compressed."""


async def pair(world: World, **settings: object) -> tuple[Peer, Ours]:
    """A peer and a node of ours that know each other."""
    peer, ours = await world.peer("theirs"), await world.ours("ours", **settings)
    await ours.join(seed_of(peer))
    await peer.wait_for("ours", "alive")
    return peer, ours


async def test_ours_sends_by_udp(world: World) -> None:
    peer, ours = await pair(world)
    theirs = ours.known("theirs")
    if isinstance(peer, GoPeer):
        ours.gossip.send(theirs, ANY_BYTES)
        await peer.until_message(ANY_BYTES)
    elif isinstance(peer, SerfPeer):
        event = UserEvent("by-udp", ANY_BYTES[:512])
        ours.gossip.send(theirs, ours.serf.encode_event(event))
        await peer.until_event(event)


async def test_ours_sends_by_tcp(world: World) -> None:
    peer, ours = await pair(world)
    theirs = ours.known("theirs")
    if isinstance(peer, GoPeer):
        large = os.urandom(300_000)
        # memberlist does not pass on an empty one.
        for data in (ANY_BYTES, large):
            await ours.gossip.send_reliable(theirs, data)
            await peer.until_message(data)
    elif isinstance(peer, SerfPeer):
        event = UserEvent("by-tcp", ANY_BYTES)
        await ours.gossip.send_reliable(theirs, ours.serf.encode_event(event))
        await peer.until_event(event)


async def test_theirs_sends_by_udp(world: World) -> None:
    peer, ours = await pair(world)
    if isinstance(peer, GoPeer):
        await peer.send("ours", ANY_BYTES)
        await so(lambda: ours.notes.messages == [ANY_BYTES], "its message")
    elif isinstance(peer, SerfPeer):
        await peer.command("event", "-coalesce=false", "from-serf", "some payload")
        await so(lambda: bool(ours.user_events), "its event")
        assert ours.user_events == [UserEvent("from-serf", b"some payload")]
    ours.nothing_was_unreadable()


async def test_theirs_sends_by_tcp(each_go_world: World) -> None:
    # Only memberlist: Serf takes user messages by TCP, but sends none.
    peer, ours = await pair(each_go_world)
    assert isinstance(peer, GoPeer)
    sent = [b"", ANY_BYTES, WORDS, os.urandom(300_000)]
    for data in sent:
        await peer.send("ours", data, reliable=True)
    # Each comes on a connection of its own, so in any order.
    await so(lambda: sorted(ours.notes.requests) == sorted(sent), "its messages")
    ours.nothing_was_unreadable()


async def test_events_pass_through_ours_to_a_serf_that_only_ours_knows_at_first(
    serf_world: World,
) -> None:
    first, ours, last = (
        await serf_world.serf("first"),
        await serf_world.ours("ours"),
        await serf_world.serf("last"),
    )
    await ours.join(seed_of(first))
    await last.join(ours.seed)
    await first.wait_for("last", "alive")
    await last.wait_for("first", "alive")
    event = UserEvent("from-ours", b"payload")
    ours.serf.send_event(event)
    await first.until_event(event)
    await last.until_event(event)
    assert first.heard().count(event) == last.heard().count(event) == 1
    await last.command("event", "from-last", "once")
    await first.until_event(UserEvent("from-last", b"once"))
    await so(lambda: [event.name for event in ours.user_events] == ["from-last"], "its event")


# --- compression and checksums ------------------------------------------------------------------


async def test_theirs_compresses(world: World) -> None:
    peer, ours = await pair(world)
    if isinstance(peer, GoPeer):
        await peer.send("ours", WORDS)
        await so(lambda: ours.notes.messages == [WORDS], "its message")
        await peer.send("ours", WORDS * 100, reliable=True)
        await so(lambda: ours.notes.requests == [WORDS * 100], "its message by TCP")
    elif isinstance(peer, SerfPeer):
        text = WORDS[:400].decode()
        await peer.command("event", "compressed", text)
        await so(lambda: bool(ours.user_events), "its event")
        assert ours.user_events[0].payload.decode() == text
    assert ours.outermost[MessageType.COMPRESS] > 0
    ours.nothing_was_unreadable()


async def test_theirs_does_not_compress(world: World) -> None:
    peer = await world.peer("theirs", flags=("-compress=false",), enable_compression=False)
    ours = await world.ours("ours")
    await peer.join(ours.seed)
    if isinstance(peer, GoPeer):
        await peer.send("ours", WORDS)
        await so(lambda: ours.notes.messages == [WORDS], "its message")
        assert ours.outermost[MessageType.COMPRESS] == 0
    await ours.join(seed_of(peer))
    ours.nothing_was_unreadable()


async def test_ours_compresses_and_adds_checksums(world: World) -> None:
    peer, ours = await pair(world, compress=True, checksums=True)
    theirs = ours.known("theirs")
    sealed = ours.gossip.protocol.envelope.seal_datagram(bytes((MessageType.USER,)) + WORDS)
    assert len(sealed) < len(WORDS) / 2
    if isinstance(peer, GoPeer):
        ours.gossip.send(theirs, WORDS)
        await peer.until_message(WORDS)
        await ours.gossip.send_reliable(theirs, WORDS * 200)
        await peer.until_message(WORDS * 200)
    elif isinstance(peer, SerfPeer):
        event = UserEvent("compressed", WORDS[:400])
        ours.gossip.send(theirs, ours.serf.encode_event(event))
        await peer.until_event(event)
    # Views go by TCP, compressed as well.
    await ours.join(seed_of(peer))
    # What ours answers to pings is understood, or theirs would begin to suspect it.
    parts = ours.gossip.protocol.stats.parts_in
    pings = parts.by_kind().get("ping", (0, 0))
    await so(lambda: parts.by_kind().get("ping", pings) > pings, "another ping of theirs")
    assert await peer.alive() == {"ours", "theirs"}


async def test_a_damaged_checksum_is_noticed_by_theirs(go_world: World) -> None:
    go_world.key = None
    peer, ours = await pair(go_world, checksums=True)
    assert isinstance(peer, GoPeer)
    theirs = ours.known("theirs")
    sealed = ours.gossip.protocol.envelope.seal_datagram(bytes((MessageType.USER,)) + b"damaged")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(sealed[:-1] + b"!", theirs.address)
    ours.gossip.send(theirs, b"whole")
    await peer.until_message(b"whole")
    await so(lambda: "invalid checksum" in peer.program.log_end(), "its complaint")
    assert not peer.program.said("message", data=to_text(b"damage!"))


async def test_theirs_adds_checksums(world: World) -> None:
    # memberlist adds them where it knows that the receiver reads them, and it looks that up by
    # address in a list of names: a node that is called by its address gets them on all packets.
    peer = await world.peer("theirs")
    ours = await world.ours(world.terms.host)
    await peer.join(ours.seed)
    await peer.wait_for(ours.name, "alive")
    await so(lambda: ours.outermost[MessageType.HAS_CRC] > 1, "packets with a checksum")
    if isinstance(peer, GoPeer):
        await peer.send(ours.name, WORDS)
        await so(lambda: ours.notes.messages == [WORDS], "its message")
    ours.nothing_was_unreadable()
    assert await peer.alive() == ours.alive() == {ours.name, "theirs"}


# --- an older protocol ---------------------------------------------------------------------------

# A node of protocol 1 knows no ports: it takes its own for that of all others.


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
async def test_protocol_one_with_its_encryption(encrypted: bool, tmp_path: Path) -> None:
    terms = Terms("go", encrypted, "127.0.0.1")
    terms.require()
    async with world_of(terms, tmp_path, PortPicker()) as world:
        peer = await world.go("theirs", "-protocol=1")
        where = ("127.0.0.2", peer.place.port)
        ours = await world.ours("ours", protocol_versions=(1, 5, 1), bind=where)
        await ours.join(seed_of(peer))
        await peer.wait_for("ours", "alive")
        assert ours.known("theirs").versions[2] == 1
        for length in (0, 1, 14, 15, 16, 17, 700):
            data = bytes(length)
            ours.gossip.send(ours.known("theirs"), data)
            await peer.until_message(data)
            await peer.send("ours", data)
            await so(lambda data=data: ours.notes.messages[-1:] == [data], "its message")
        await ours.gossip.send_reliable(ours.known("theirs"), WORDS)
        await peer.until_message(WORDS)
        if encrypted:
            assert ours.gossip.protocol.envelope.encryption_version == 0
        await peer.leave()
        await ours.wait_for("theirs", NodeState.LEFT)
        ours.nothing_was_unreadable()


async def test_protocol_two_reads_what_protocol_one_sends(go_world: World) -> None:
    old = await go_world.go("old", "-protocol=1")
    new = await go_world.go("new", "-protocol=2", bind=("127.0.0.3", old.place.port))
    ours = await go_world.ours("ours", bind=("127.0.0.2", old.place.port))
    for peer in (old, new):
        await ours.join(seed_of(peer))
    for peer in (old, new):
        await peer.wait_for("ours", "alive")
        ours.gossip.send(ours.known(peer.name), ANY_BYTES)
        await peer.until_message(ANY_BYTES)
        await peer.send("ours", peer.name.encode())
    await so(lambda: sorted(ours.notes.messages) == [b"new", b"old"], "a message of both")
    ours.nothing_was_unreadable()


# --- LZW -----------------------------------------------------------------------------------------


async def test_lzw_is_byte_for_byte_that_of_go() -> None:
    require_go()
    inputs = lzw_inputs()
    for data, compressed in zip(inputs, await compressed_by_go(inputs), strict=True):
        assert lzw.compress(data) == compressed, len(data)
        assert lzw.decompress(compressed, len(data)) == data
