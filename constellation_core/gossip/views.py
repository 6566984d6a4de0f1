"""Exchanges of whole views over TCP: they find what gossip missed, and heal partitions.

Source: memberlist's push/pull. Ours tells of the dead as well, and tries them again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from constellation_core.gossip.actions import Delegate, ExchangeFailed
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.exchanges import Exchanges
from constellation_core.gossip.member import Address
from constellation_core.gossip.messages import PushPull
from constellation_core.gossip.streams import StreamMessage
from constellation_core.gossip.table import MemberTable
from constellation_core.gossip.timers import Timer, Timers
from constellation_core.model.node import NodeState

_SCALE_ABOVE = 32
_FIRST = 1.0
"""Seconds. A newcomer knows few members, so its news is sent on few times; until that has
evened out it exchanges whole views more often: after 1, 2, 4, ... seconds."""
_TRIES_WHEN_LOST = 3
_MOST_REMEMBERED = 256
"""Addresses of nodes that nobody lists any more; of more the oldest are given up."""


class Views:
    """Exchanges views with random members, and with those that are lost."""

    def __init__(
        self,
        config: GossipConfig,
        table: MemberTable,
        timers: Timers,
        rng: Random,
        exchanges: Exchanges,
        delegate: Delegate,
    ) -> None:
        self._config = config
        self._table = table
        self._timers = timers
        self._rng = rng
        self._exchanges = exchanges
        self._delegate = delegate
        self._remembered: dict[Address, None] = {}
        self._wait = config.push_pull_interval
        self._next = Timer(timers.now, lambda: None)

    def start(self) -> None:
        """Begin to exchange views with random members."""
        self._wait = min(_FIRST, self._config.push_pull_interval)
        self._begin()

    def settle(self) -> None:
        """Be past the time of a newcomer: exchange views as often as in a long calm."""
        self._wait = self._usual_wait()
        self._begin()

    def remember(self, addresses: set[Address]) -> None:
        """Addresses of nodes that are not known any more, or not yet: tried until they answer."""
        self._remembered |= dict.fromkeys(sorted(addresses))
        for oldest in list(self._remembered)[:-_MOST_REMEMBERED]:
            del self._remembered[oldest]

    def sync(
        self, address: Address, done: Callable[[ExchangeFailed | None], None], *, join: bool
    ) -> None:
        """Exchange views with the node at ``address``."""

        def on_reply(reply: StreamMessage | ExchangeFailed) -> None:
            if isinstance(reply, PushPull):
                try:
                    self._merge(reply, join=join)
                finally:
                    # Whatever the delegate raises, somebody may wait for this.
                    done(None)
            elif isinstance(reply, ExchangeFailed):
                done(reply)
            else:
                error = getattr(reply, "error", f"it answered with {type(reply).__name__}")
                done(ExchangeFailed(error))

        self._exchanges.open(address, self._view(join=join), on_reply)

    def answer(self, request: PushPull) -> PushPull:
        """Take another node's view over; returns ours from before that, as memberlist does."""
        answer = self._view(join=False)
        self._merge(request, join=request.join)
        return answer

    def rejoin(self) -> None:
        """Try a node that is lost: so partitions heal, however long they lasted."""
        if self._table.all_online and not self._remembered:
            return
        online = {member.address for member in self._table.all() if member.online}
        for address in online & self._remembered.keys():
            del self._remembered[address]
        lost = {m.address for m in self._table.all() if m.state is NodeState.DEAD}
        candidates = sorted((lost | self._remembered.keys()) - online)
        # Who has lost most of the others is likelier to be the one that is cut off.
        tries = _TRIES_WHEN_LOST if len(online) < len(candidates) else 1
        for address in self._rng.sample(candidates, min(tries, len(candidates))):
            self.sync(address, lambda _: None, join=True)

    def _view(self, *, join: bool) -> PushPull:
        # The dead as well, as long as they are known: after a partition each side holds the other
        # to be dead, and only who reads that about itself can contradict with a higher number.
        rows = tuple(member.row() for member in self._table.all())
        return PushPull(join, rows, self._delegate.local_state(join=join))

    def _merge(self, view: PushPull, *, join: bool) -> None:
        self._table.merge(view.rows)
        if view.user_state:
            self._delegate.merge_state(view.user_state, join=join)

    def _begin(self) -> None:
        self._next.cancel()
        wait = self._rng.random() * self._wait
        self._next = self._timers.call_later(wait, self._exchange_with_random)

    def _usual_wait(self) -> float:
        nodes = self._table.online_count()
        scale = 1.0
        if nodes > _SCALE_ABOVE:
            scale = math.ceil(math.log2(nodes) - math.log2(_SCALE_ABOVE)) + 1.0
        return self._config.push_pull_interval * scale

    def _exchange_with_random(self) -> None:
        self._wait = min(2 * self._wait, self._usual_wait())
        self._next = self._timers.call_later(self._wait, self._exchange_with_random)
        for member in self._table.choose(1, lambda m: m.state is NodeState.ALIVE):
            self.sync(member.address, lambda _: None, join=False)
