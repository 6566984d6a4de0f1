"""Failure detection: ping, ask others to ping, try TCP, and suspect only then.

Source: SWIM section 3.1, Lifeguard, and memberlist's ``probeNode``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from constellation_core.gossip.awareness import Awareness
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.member import Address, Member, pack_ip
from constellation_core.gossip.messages import (
    Ack,
    IndirectPing,
    Nack,
    Ping,
    Plain,
    Suspect,
    UserMessage,
)
from constellation_core.gossip.paths import Paths
from constellation_core.gossip.stats import Stats
from constellation_core.gossip.table import MemberTable
from constellation_core.gossip.timers import Timer, Timers
from constellation_core.model.node import NodeState

_TCP_PING_PROTOCOL = 3
_NACK_PROTOCOL = 4
_MOST_RELAYS = 1024

_NACK_AT = 0.8
"""The part of the timeout after which a relay says that it got no answer. At the whole of it, as
in memberlist, that word comes just after the probe is given up, and the prober doubts itself in
vain whenever somebody else is dead."""


class ProberOutput(Protocol):
    """How the prober reaches other nodes."""

    def send(self, address: Address, *messages: Plain | UserMessage) -> None:
        """Send messages by UDP."""

    def accuse(self, member: Member) -> None:
        """Tell a suspect itself, which answers if it can."""

    def ping_stream(self, member: Member, ping: Ping, answered: Callable[[], None]) -> None:
        """Ping over TCP; call ``answered`` when an answer comes in time."""


@dataclass(slots=True)
class _Probe:
    target: Member
    sent: float
    deadline: Timer
    expected_nacks: int = 0
    nacks: int = 0
    relayed: bool = False
    timers: list[Timer] = field(default_factory=list)


@dataclass(slots=True)
class _Relay:
    seq: int
    address: Address
    timer: Timer


class Prober:
    """Probes one member per interval, and relays the probes of others."""

    def __init__(
        self,
        config: GossipConfig,
        table: MemberTable,
        timers: Timers,
        awareness: Awareness,
        stats: Stats,
        output: ProberOutput,
    ) -> None:
        self._config = config
        self._table = table
        self._timers = timers
        self._awareness = awareness
        self._stats = stats
        self._output = output
        self.paths = Paths()
        self._seq = 0
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}

    def probe_next(self) -> None:
        """Begin to probe the next member, unless a probe is still out."""
        if self._probes:
            return
        target = self._table.next_to_probe()
        if target is None:
            return
        seq = self._next_seq()
        config = self._config
        deadline = self._timers.call_later(
            self._awareness.scale(config.probe_interval), lambda: self._fail(seq)
        )
        probe = _Probe(target, self._timers.now, deadline)
        self._probes[seq] = probe
        probe.timers.append(
            self._timers.call_later(config.probe_timeout, lambda: self._ask_others(seq))
        )
        messages: list[Plain] = [self._ping(seq, target)]
        if target.state is NodeState.SUSPECT:
            # Lifeguard's buddy system: tell a suspect first of all, so that it can refute.
            messages.append(Suspect(target.incarnation, target.name, config.name))
        self._output.send(target.address, *messages)

    def abandon(self) -> None:
        """Forget all probes without a verdict: this process was not there to hear answers."""
        for seq in list(self._probes):
            self._finish(seq)

    def postpone(self, seconds: float) -> None:
        """Give the probes under way more time: this process was not there to hear answers."""
        for probe in self._probes.values():
            probe.deadline = self._timers.postpone(probe.deadline, seconds)
            probe.timers = [self._timers.postpone(timer, seconds) for timer in probe.timers]

    def on_ping(self, ping: Ping) -> list[Ack]:
        """The answer; none when somebody else was meant."""
        return [Ack(ping.seq)] if ping.node in ("", self._config.name) else []

    def on_indirect_ping(self, request: IndirectPing, target: Address, source: Address) -> None:
        """Ping on behalf of ``source`` and pass the answer on."""
        if len(self._relays) >= _MOST_RELAYS:
            return
        seq = self._next_seq()

        def give_up() -> None:
            self._relays.pop(seq, None)

        def no_answer_yet() -> None:
            relay = self._relays.get(seq)
            if relay is not None:
                relay.timer = self._timers.call_later((1 - _NACK_AT) * timeout, give_up)
                if request.nack:
                    self._output.send(source, Nack(request.seq))

        timeout = self._config.probe_timeout
        timer = self._timers.call_later(_NACK_AT * timeout, no_answer_yet)
        self._relays[seq] = _Relay(request.seq, source, timer)
        self._output.send(target, self._ping(seq, None, request.node))

    def on_ack(self, ack: Ack, source: Address) -> None:
        """An answer to a probe of ours, or to one that we relay."""
        relay = self._relays.pop(ack.seq, None)
        if relay is not None:
            relay.timer.cancel()
            self._output.send(relay.address, Ack(relay.seq, ack.payload))
            return
        probe = self._finish(ack.seq)
        if probe is None:
            return
        if not probe.relayed or source == probe.target.address:
            self._stats.round_trips[probe.target.name] = self._timers.now - probe.sent
            self.paths.answered_directly(probe.target.name)
        else:
            self.paths.answered_otherwise(probe.target.name)
        self._awareness.add(-1)

    def on_nack(self, nack: Nack) -> None:
        """A relay is well, but got no answer either."""
        probe = self._probes.get(nack.seq)
        if probe is not None:
            probe.nacks += 1

    def _ask_others(self, seq: int) -> None:
        probe = self._probes[seq]
        probe.relayed = True
        target = probe.target
        self.paths.unanswered(target.name, target.address)
        relays = self._table.choose(
            self._config.indirect_checks,
            lambda m: m.state is NodeState.ALIVE and m.name != target.name,
        )
        for relay in relays:
            nack = relay.versions[1] >= _NACK_PROTOCOL
            probe.expected_nacks += nack
            local = self._table.local
            self._output.send(
                relay.address,
                IndirectPing(
                    seq,
                    pack_ip(target.address[0]),
                    target.address[1],
                    target.name,
                    nack,
                    pack_ip(local.address[0]),
                    local.address[1],
                    local.name,
                ),
            )
        if target.versions[1] >= _TCP_PING_PROTOCOL:
            self._output.ping_stream(
                target, self._ping(seq, target), lambda: self._answered_by_stream(seq, target)
            )

    def _answered_by_stream(self, seq: int, target: Member) -> None:
        # Relays are often faster; that TCP works too is worth knowing all the same.
        self.paths.answered_by_stream(target.name, self._timers.now)
        if self._finish(seq) is not None:
            self.paths.answered_otherwise(target.name)
            self._awareness.add(-1)

    def _fail(self, seq: int) -> None:
        probe = self._finish(seq)
        if probe is None:
            return
        if probe.expected_nacks:
            # Relays that we asked say nothing either: perhaps it is us who are cut off.
            self._awareness.add(probe.expected_nacks - probe.nacks)
        else:
            self._awareness.add(1)
        current = self._table.get(probe.target.name)
        if current is not None and current.online:
            self._table.suspect(Suspect(current.incarnation, current.name, self._config.name))
            # The sooner it hears of it, the sooner it can object.
            self._output.accuse(current)

    def _finish(self, seq: int) -> _Probe | None:
        probe = self._probes.pop(seq, None)
        if probe is not None:
            probe.deadline.cancel()
            for timer in probe.timers:
                timer.cancel()
        return probe

    def _ping(self, seq: int, target: Member | None, name: str = "") -> Ping:
        local = self._table.local
        return Ping(
            seq,
            target.name if target is not None else name,
            pack_ip(local.address[0]),
            local.address[1],
            local.name,
        )

    def _next_seq(self) -> int:
        self._seq = (self._seq + 1) & 0xFFFFFFFF
        return self._seq
