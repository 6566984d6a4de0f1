"""How news spread: every message about a member is sent on a few times, to random others.

What has room beside a ping or an answer rides along; the rest leaves in rounds of its own. News
about members go first, what the application has to say fills the room that is left.

Source: SWIM section 4.1, and memberlist's ``gossip`` and ``getBroadcasts``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constellation_core.gossip.actions import Delegate, SendDatagram
from constellation_core.gossip.broadcasts import BroadcastQueue, retransmit_limit
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.member import Address, Member
from constellation_core.gossip.messages import MessageType, Plain, UserMessage, encode
from constellation_core.gossip.packets import compound
from constellation_core.gossip.stats import Stats
from constellation_core.gossip.table import MemberTable
from constellation_core.gossip.timers import Timers
from constellation_core.model.node import NodeState

_COMPOUND_HEADER = 2
_PART_OVERHEAD = 2
_USER = bytes((MessageType.USER,))


class Dissemination:
    """Fills datagrams.

    Args:
        config: timing and limits.
        table: whom to tell.
        timers: the time.
        stats: where to count.
        envelope: seals what is sent.
        delegate: what the application has to tell.
        emit: takes each datagram.

    Attributes:
        queue: news about members.
        silent: while true, nothing is sent.
    """

    def __init__(
        self,
        config: GossipConfig,
        table: MemberTable,
        timers: Timers,
        stats: Stats,
        envelope: Envelope,
        delegate: Delegate,
        emit: Callable[[SendDatagram], None],
    ) -> None:
        self._config = config
        self._table = table
        self._timers = timers
        self._stats = stats
        self._envelope = envelope
        self._delegate = delegate
        self._emit = emit
        self.queue = BroadcastQueue()
        self.silent = True

    def send(self, address: Address, *messages: Plain | UserMessage) -> None:
        """Send messages, with as much news as fits beside them."""
        parts = [encode(message) for message in messages]
        used = sum(map(len, parts)) + _PART_OVERHEAD * len(parts)
        self._send([address], parts + self._news(self._room() - used, copies=1))

    def round(self) -> None:
        """Tell the news to a few random members, also to some that died lately: they may live."""
        if not self.queue and not self._delegate.has_broadcasts():
            return
        now, most_dead = self._timers.now, self._config.gossip_to_dead

        def wanted(member: Member) -> bool:
            return member.online or (
                member.state is NodeState.DEAD and now - member.since < most_dead
            )

        # With nobody dead nobody needs to be looked at.
        condition = None if self._table.all_online else wanted
        members = self._table.choose(self._config.gossip_nodes, condition)
        if not members:
            return
        # The same for all of them: it is put together, compressed and encrypted once.
        parts = self._news(self._room(), copies=len(members))
        if parts:
            self._send([member.address for member in members], parts)

    def _room(self) -> int:
        return self._config.datagram_size - self._envelope.overhead - _COMPOUND_HEADER

    def _news(self, room: int, *, copies: int) -> list[bytes]:
        limit = retransmit_limit(
            self._config.retransmit_multiplier, max(1, self._table.online_count())
        )
        parts = self.queue.take(room, _PART_OVERHEAD, limit, copies)
        room -= sum(map(len, parts)) + _PART_OVERHEAD * len(parts)
        if room > _PART_OVERHEAD + 1 and self._delegate.has_broadcasts():
            payloads = self._delegate.broadcasts(room, _PART_OVERHEAD + 1, copies)
            parts += [_USER + payload for payload in payloads]
        return parts

    def _send(self, addresses: Sequence[Address], parts: list[bytes]) -> None:
        if self.silent:
            return
        stats, copies = self._stats, len(addresses)
        for part in parts:
            stats.parts_out.add(part[0], len(part), copies)
        for message in compound(parts):
            data = self._envelope.seal_datagram(message)
            stats.datagrams_out += copies
            stats.bytes_out += copies * len(data)
            for address in addresses:
                self._emit(SendDatagram(address, data))
