"""Which address a node tells others, on real sockets of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from constellation_core.agent.addresses import AdvertiseError, advertised
from constellation_core.agent.interfaces import HostAddress, HostAddresses
from constellation_core.config import Address
from constellation_core.gossip import (
    EventKind,
    Gossip,
    GossipConfig,
    Keyring,
    MemberEvent,
    NoDelegate,
)
from constellation_core.model.node import NodeState

KEY = Keyring([b"k" * 32])


class Events(NoDelegate):
    def __init__(self) -> None:
        self.seen: list[MemberEvent] = []

    def on_event(self, event: MemberEvent) -> None:
        self.seen.append(event)


@asynccontextmanager
async def node(
    name: str,
    bind: str,
    advertise: str | None = None,
    may_advertise: Callable[[str], bool] | None = None,
    delegate: NoDelegate | None = None,
) -> AsyncIterator[Gossip]:
    async with AsyncExitStack() as stack:
        gossip = Gossip(
            GossipConfig(name),
            bind=(bind, 0),
            advertise=(advertise, 0) if advertise is not None else None,
            keyring=KEY,
            may_advertise=may_advertise,
            delegate=delegate,
        )
        stack.push_async_callback(gossip.close)
        await gossip.start()
        yield gossip


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_peers_say_how_they_see_a_node_and_the_node_itself_does_not_count() -> None:
    async with node("one", "0.0.0.0", "127.0.0.9") as one, node("two", "127.0.0.3") as two:
        own = f"127.0.0.1:{one.local.address[1]}"
        other = f"127.0.0.3:{two.local.address[1]}"
        nobody = "127.0.0.4:1"
        (echo,) = await one.ask_echo([own, other, nobody])
        assert echo.peer == other
        assert echo.seen == echo.local
        one.advertise(echo.seen)
        await one.join([other])
        await until(
            lambda: any(m.address == (echo.seen, one.local.address[1]) for m in two.members())
        )
        with pytest.raises(ValueError, match="once other members are known"):
            one.advertise("127.0.0.8")


async def test_the_first_node_learns_its_address_from_its_first_visitor() -> None:
    def allowed(host: str) -> bool:
        return host != "127.0.0.66"

    async with node("first", "0.0.0.0", "127.0.0.9", allowed) as first:
        port = first.local.address[1]
        async with node("stranger", "127.0.0.5") as stranger:
            # As if it came over a container bridge: not an address to tell others.
            await stranger.join([f"127.0.0.66:{port}"])
            assert first.local.address == ("127.0.0.9", port)
    events = Events()
    async with node("first", "0.0.0.0", "127.0.0.9", allowed, events) as first:
        port = first.local.address[1]
        async with node("second", "127.0.0.2") as second:
            await second.join([f"127.0.0.3:{port}"])
            assert first.local.address == ("127.0.0.3", port)
            # The application hears of it: its own addresses may have to follow.
            (moved,) = [event for event in events.seen if event.member.name == "first"]
            assert moved.kind is EventKind.UPDATED
            assert moved.member.address == ("127.0.0.3", port)
            await until(lambda: len(second.members()) == 2)
            assert {m.state for m in second.members()} == {NodeState.ALIVE}


async def test_a_socket_for_all_addresses_speaks_both_families() -> None:
    async with node("both", "::", "127.0.0.1") as both, node("old", "127.0.0.1") as old:
        await old.join([f"127.0.0.1:{both.local.address[1]}"])
        await until(lambda: len(both.members()) == 2)
        # Probes go over UDP, both ways.
        await until(lambda: "old" in both.protocol.stats.round_trips)
        await until(lambda: "both" in old.protocol.stats.round_trips)
        assert not both.protocol.seen_from


def test_the_guess_is_never_a_bridge() -> None:
    bridge = HostAddress("172.17.0.1", "docker0")
    wired = HostAddress("192.0.2.7", "eth0")
    local = HostAddress("127.0.0.1", "lo")
    everywhere = ("0.0.0.0", 7946)
    assert advertised(everywhere, None, HostAddresses([local, bridge, wired])) == ("192.0.2.7", 0)
    with pytest.raises(AdvertiseError, match="advertise"):
        advertised(everywhere, None, HostAddresses([local, bridge]))
    assert advertised(("10.0.0.1", 1), None, HostAddresses([])) == ("10.0.0.1", 0)
    with pytest.raises(AdvertiseError, match="nobody can reach"):
        advertised(everywhere, Address("0.0.0.0", 7946), HostAddresses([local, wired]))


@pytest.mark.parametrize(
    ("interface", "inside"),
    [
        ("docker0", True),
        ("br-4f1c2d", True),
        ("veth12ab", True),
        ("virbr0", True),
        ("cni0", True),
        ("eth0", False),
        ("tailscale0", False),
        ("bridge-of-admin", False),
        ("br0", False),
        ("wg0", False),
    ],
)
def test_container_bridges_are_told_by_their_names(interface: str, inside: bool) -> None:
    assert HostAddress("10.0.0.1", interface).inside_only is inside


def test_this_host_has_addresses() -> None:
    own = HostAddresses()
    assert own.may_advertise("127.0.0.1")
    assert not own.may_advertise("203.0.113.77")
