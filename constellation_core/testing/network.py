"""A network of gossip nodes in one process, under a virtual clock.

Every node runs the real protocol and, if it is given one, the real catalog; only sockets and
time are replaced. All chance comes from one seed, so a run can be repeated exactly, and a
minute passes as fast as its events can be worked off. Datagrams and stream messages travel in
their wire form::

    network = SimulatedNetwork(seed=1)
    nodes = [network.add(f"node-{number}") for number in range(3)]
    nodes[1].join(nodes[0])
    network.run_until(lambda: network.agrees_on_members(), limit=5)
    network.conditions.loss = 0.2
    nodes[2].kill()
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from constellation_core.gossip.actions import Delegate
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.keyring import Keyring
from constellation_core.gossip.member import Address
from constellation_core.testing.simulated_node import SimulatedNode

EPOCH_2023 = 1_700_000_000
"""Seconds since 1970 at which simulated wall clocks begin."""
_TCP_GIVES_UP = 120.0
"""Seconds between two attempts of TCP; longer than any exchange waits."""


@dataclass(slots=True)
class Conditions:
    """What the network does to what is sent over it; may be changed at any time.

    Attributes:
        latency: shortest and longest time that a packet travels, in seconds. A wide range
            changes the order of packets.
        loss: share of datagrams that are lost, 0 to 1. Streams are slowed down instead, as TCP is.
        duplication: share of datagrams that arrive twice.
        cut: pairs of names; nothing passes from the first to the second.
        udp_blocked: names of nodes that no datagram reaches or leaves.
        udp_cut: pairs of names; no datagram passes from the first to the second.
    """

    latency: tuple[float, float] = (0.0002, 0.002)
    loss: float = 0.0
    duplication: float = 0.0
    cut: set[tuple[str, str]] = field(default_factory=set)
    udp_blocked: set[str] = field(default_factory=set)
    udp_cut: set[tuple[str, str]] = field(default_factory=set)

    def split(self, *groups: Iterable[SimulatedNode]) -> None:
        """Let nothing pass between nodes of different groups."""
        names = [[node.name for node in group] for group in groups]
        for number, group in enumerate(names):
            for other in names[number + 1 :]:
                for one in group:
                    for two in other:
                        self.cut |= {(one, two), (two, one)}

    def heal(self) -> None:
        """Let everything pass again."""
        self.cut.clear()
        self.udp_blocked.clear()
        self.udp_cut.clear()


class SimulatedNetwork:
    """Nodes, the network between them, and the time.

    Args:
        seed: of all chance.
        config: makes the gossip's settings from a node's name.
        keyring: encrypts everything, if given.
        traced: keep :attr:`trace`.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        config: Callable[[str], GossipConfig] = GossipConfig,
        keyring: Keyring | None = None,
        traced: bool = False,
    ) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.conditions = Conditions()
        self._keyring = keyring
        self.nodes: dict[str, SimulatedNode] = {}
        self._config = config
        self._by_address: dict[Address, SimulatedNode] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._hosts = count(1)
        self._trace = hashlib.blake2b(digest_size=16) if traced else None

    def add(
        self,
        name: str,
        *,
        delegate: Delegate | None = None,
        meta: bytes = b"",
        config: GossipConfig | None = None,
        address: Address | None = None,
        keyring: Keyring | None = None,
        clock_offset: float = 0.0,
    ) -> SimulatedNode:
        """Start a node; one of the same name that runs no more is replaced.

        Args:
            name: its name in this network; for other nodes as well, unless ``config`` differs.
            delegate: what rides on its gossip.
            meta: what it tells of itself.
            config: its settings, where they differ from the network's.
            address: its address; by default that of the earlier node of its name, or a new one.
            keyring: its keys, where they differ from the network's.
            clock_offset: by how many seconds its wall clock is wrong.
        """
        earlier = self.nodes.get(name)
        if address is None:
            number = next(self._hosts)
            new = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 7946)
            address = earlier.address if earlier is not None else new
        node = SimulatedNode(
            self,
            name,
            config or self._config(name),
            address,
            incarnation=int(EPOCH_2023 + self.now + clock_offset),
            delegate=delegate,
            meta=meta,
            keyring=keyring or self._keyring,
        )
        self.nodes[name] = node
        self._by_address[address] = node
        node.start()
        return node

    def acquaint(self) -> None:
        """Let every node know every other, as after a long calm; before any time has passed.

        Without this, nodes come to know each other as real ones do: by joining. That costs a
        large cluster a minute in which it sends little else.
        """
        members = {node.name: node.protocol.table.local for node in self.running()}
        for node in self.running():
            node.protocol.acquaint(members)

    # --- time --------------------------------------------------------------------------------

    def at(self, when: float, event: Callable[..., None], *arguments: Any) -> None:
        """Let ``event(*arguments)`` happen at that time."""
        heapq.heappush(self._events, (when, next(self._order), event, arguments))

    def run_for(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self.now + seconds
        events = self._events
        while events and events[0][0] <= end:
            when, _, event, arguments = heapq.heappop(events)
            if when > self.now:
                self.now = when
            event(*arguments)
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit: float, step: float = 0.1) -> float:
        """Let time pass until ``condition()``; returns how many seconds it took.

        Raises:
            AssertionError: when that is not so within ``limit`` seconds.
        """
        started = self.now
        while not condition():
            if self.now - started >= limit:
                raise AssertionError(f"not so after {limit:g} s of virtual time")
            self.run_for(step)
        return self.now - started

    # --- the wire ----------------------------------------------------------------------------

    def node_at(self, address: Address) -> SimulatedNode | None:
        """The node that listens there."""
        return self._by_address.get(address)

    def passes(self, source: SimulatedNode, target: SimulatedNode) -> bool:
        """Whether anything sent from ``source`` can reach ``target``."""
        cut = self.conditions.cut
        return not cut or (source.name, target.name) not in cut

    def delay(self) -> float:
        """How long the next packet travels."""
        shortest, longest = self.conditions.latency
        return shortest + (longest - shortest) * self.rng.random()

    def send_datagram(self, source: SimulatedNode, address: Address, data: bytes) -> None:
        """Let a datagram travel, or be lost."""
        self.record(source, address, data)
        target = self.node_at(address)
        conditions = self.conditions
        if (
            target is None
            or not self.passes(source, target)
            or (conditions.udp_blocked and conditions.udp_blocked & {source.name, target.name})
            or (conditions.udp_cut and (source.name, target.name) in conditions.udp_cut)
        ):
            return
        copies = 1 + (conditions.duplication > 0 and self.rng.random() < conditions.duplication)
        for _ in range(copies):
            if conditions.loss == 0 or self.rng.random() >= conditions.loss:
                self.at(self.now + self.delay(), target.receive, data, source.address)

    def record(self, source: SimulatedNode, address: Address, data: bytes) -> None:
        """Take what is sent into the trace."""
        if self._trace is not None:
            self._trace.update(f"{self.now!r} {source.name} {address} {len(data)} ".encode() + data)

    @property
    def trace(self) -> str:
        """A hash of every byte that was sent so far, with its time, sender and receiver."""
        if self._trace is None:
            raise RuntimeError("this network is not traced")
        return self._trace.hexdigest()

    def stream_delay(self) -> float:
        """How long one direction of a stream takes: lost packets are sent again by TCP."""
        delay = self.delay()
        resend = 0.2
        loss = self.conditions.loss
        while loss > 0 and self.rng.random() < loss and resend < _TCP_GIVES_UP:
            delay += resend
            resend *= 2
        return delay

    # --- asking ------------------------------------------------------------------------------

    def running(self) -> list[SimulatedNode]:
        """The nodes that have not been killed."""
        return [node for node in self.nodes.values() if node.running]

    def agrees_on_members(self) -> bool:
        """Whether every running node knows exactly the running nodes as alive."""
        names = {node.name for node in self.running()}
        return all(node.alive_names() == names for node in self.running())
