"""Updates that wait to be broadcast: the most urgent first, bounded in bytes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from constellation_core.catalog.urgency import Urgency

MOST_BYTES = 64 * 1024
"""What waits beyond this is left to the comparisons: it would take too long anyway."""

_MISSES = 8
"""So many updates that do not fit are passed over before a datagram is taken to be full."""


@dataclass(slots=True)
class _Entry:
    owner: str
    base: int
    version: int
    payload: bytes
    urgency: Urgency
    number: int
    sent: int = field(default=0)
    dropped: bool = field(default=False)


class UpdateQueue:
    """Updates, each sent a limited number of times.

    An update takes the place of those waiting of the same owner that it contains.

    Attributes:
        overflowed: how many were dropped since there was no room for them.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.overflowed = 0
        self._most_bytes = most_bytes
        self._bytes = 0
        self._number = 0
        self._waiting = 0
        self._owners: dict[str, dict[int, _Entry]] = {}
        self._heap: list[tuple[Urgency, int, int, _Entry]] = []

    def __len__(self) -> int:
        return len(self._owners)

    def put(self, owner: str, base: int, version: int, payload: bytes, urgency: Urgency) -> None:
        """Queue an update that leads from ``base`` to ``version`` of ``owner``."""
        for entry in list(self._owners.get(owner, {}).values()):
            if entry.version == version or (base <= entry.base and entry.version < version):
                # What was urgent in it stands in the new one as well.
                urgency = min(urgency, entry.urgency)
                self._drop(entry)
        self._number += 1
        new = _Entry(owner, base, version, payload, urgency, self._number)
        self._owners.setdefault(owner, {})[version] = new
        self._bytes += len(payload)
        self._waiting += 1
        self._push(new)
        while self._bytes > self._most_bytes:
            self._overflow()

    def take(
        self, room: int, tokens: int, overhead: int, limit: int, copies: int = 1
    ) -> list[bytes]:
        """Updates for one datagram.

        The most urgent come first, of these the ones sent least, of these the newest. What does
        not fit is passed over, but nothing overtakes what only waits for ``tokens``.

        Args:
            room: bytes that the datagram has left.
            tokens: bytes that may be spent on each copy.
            overhead: bytes that each update costs more.
            limit: an update that was sent so often is done with.
            copies: to how many members the datagram goes.
        """
        taken: list[_Entry] = []
        missed: list[_Entry] = []
        while self._heap and room > overhead and len(missed) < _MISSES:
            entry = self._heap[0][3]
            cost = len(entry.payload) + overhead
            if entry.dropped:
                heapq.heappop(self._heap)
            elif cost > tokens:
                break
            else:
                heapq.heappop(self._heap)
                if cost > room:
                    missed.append(entry)
                else:
                    taken.append(entry)
                    room -= cost
                    tokens -= cost
        for entry in taken:
            entry.sent += copies
            if entry.sent >= limit:
                self._drop(entry)
            else:
                self._push(entry)
        for entry in missed:
            self._push(entry)
        return [entry.payload for entry in taken]

    def oldest_base(self, owner: str) -> int | None:
        """The lowest version that a waiting update of ``owner`` follows on."""
        waiting = self._owners.get(owner)
        return min(entry.base for entry in waiting.values()) if waiting else None

    def drop(self, owner: str) -> None:
        """Forget what waits of ``owner``."""
        for entry in list(self._owners.get(owner, {}).values()):
            self._drop(entry)

    def _push(self, entry: _Entry) -> None:
        heapq.heappush(self._heap, (entry.urgency, entry.sent, -entry.number, entry))
        if len(self._heap) > 2 * self._waiting + _MISSES:
            self._heap = [each for each in self._heap if not each[3].dropped]
            heapq.heapify(self._heap)

    def _drop(self, entry: _Entry) -> None:
        entry.dropped = True
        self._bytes -= len(entry.payload)
        self._waiting -= 1
        waiting = self._owners[entry.owner]
        del waiting[entry.version]
        if not waiting:
            del self._owners[entry.owner]

    def _overflow(self) -> None:
        entries = [entry for waiting in self._owners.values() for entry in waiting.values()]
        # What was sent often has done most of its work already.
        self._drop(max(entries, key=lambda entry: (entry.urgency, entry.sent, -entry.number)))
        self.overflowed += 1
