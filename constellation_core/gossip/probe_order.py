"""Whom to probe next.

Every other probe goes round robin over all others in random order, as SWIM has it, so that every
pair of nodes is tried. How long a dead node waits for its first probe is then a matter of luck,
and the unlucky wait long. The probes between go to the next node on a ring, which is the same for
all: so each node is probed by one certain other every two intervals, and nobody waits longer.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable
from functools import lru_cache
from random import Random
from zlib import crc32

from constellation_core.gossip.member import Member
from constellation_core.model.node import NodeState

Lookup = Callable[[str], Member | None]


class ProbeOrder:
    """The order in which one node probes all others.

    Args:
        local: name of the node that probes.
        rng: all chance comes from it.
    """

    def __init__(self, local: str, rng: Random) -> None:
        self._local = _place(local)
        self._rng = rng
        self._ring: list[tuple[int, str]] = []
        self._round: list[str] = []
        self._urgent: list[str] = []
        self._ring_is_next = False

    def add(self, *names: str) -> None:
        """Probe these too, at random times, so that not all probe a newcomer at once."""
        if len(names) == 1:
            insort(self._ring, _place(names[0]))
        else:
            self._ring = sorted([*self._ring, *map(_place, names)])
        self._round.extend(names)

    def remove(self, name: str) -> None:
        """Probe ``name`` no more; it must have been added."""
        del self._ring[bisect(self._ring, _place(name)) - 1]

    def hurry(self, name: str) -> None:
        """Probe ``name`` before all others."""
        if name not in self._urgent:
            self._urgent.append(name)

    def next(self, lookup: Lookup) -> Member | None:
        """The next member to probe; ``lookup`` tells what is known of it."""
        while self._urgent:
            member = lookup(self._urgent.pop(0))
            if member is not None and member.online:
                return member
        self._ring_is_next = not self._ring_is_next
        if self._ring_is_next:
            member = self._neighbour(lookup)
            if member is not None:
                return member
        return self._next_of_round(lookup)

    def _neighbour(self, lookup: Lookup) -> Member | None:
        """The next on the ring that is alive: beyond a suspect, which others look after."""
        ring = self._ring
        start = bisect(ring, self._local)
        for step in range(len(ring)):
            member = lookup(ring[(start + step) % len(ring)][1])
            if member is not None and member.state is NodeState.ALIVE:
                return member
        return None

    def _next_of_round(self, lookup: Lookup) -> Member | None:
        # What is left of this round, and one whole round.
        for _ in range(2 * len(self._ring)):
            if not self._round:
                self._round = [name for _, name in self._ring]
            # A shuffle, one step at a time.
            order = self._round
            drawn = int(self._rng.random() * len(order))
            order[drawn], order[-1] = order[-1], order[drawn]
            member = lookup(order.pop())
            if member is not None and member.online:
                return member
        return None


@lru_cache(maxsize=65_536)
def _place(name: str) -> tuple[int, str]:
    # A sum, so that node-1 and node-2, perhaps of one rack, are no neighbours.
    return (crc32(name.encode()), name)
