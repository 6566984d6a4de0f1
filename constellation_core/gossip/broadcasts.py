"""What is still to be gossiped: bounded, the freshest first, newest word per subject."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from functools import lru_cache


@lru_cache(maxsize=64)
def retransmit_limit(multiplier: int, nodes: int) -> int:
    """How often a message is sent before it is taken to have reached all."""
    return multiplier * math.ceil(math.log10(nodes + 1))


_MISSES = 8
"""So many messages that do not fit are passed over before a datagram is taken to be full."""


@dataclass(slots=True)
class _Entry:
    subject: str
    payload: bytes
    number: int
    sent: int = field(default=0)

    @property
    def urgency(self) -> tuple[int, int, _Entry]:
        # The number is unique, so that entries themselves are never compared.
        return (self.sent, -self.number, self)


class BroadcastQueue:
    """Messages to piggyback on gossip, each sent a limited number of times.

    A message replaces the waiting one about the same subject, so that the queue is bounded by
    the number of subjects.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        # Kept in order: a thousand wait when a thousand nodes start, and fifteen datagrams leave
        # in a second.
        self._by_urgency: list[tuple[int, int, _Entry]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, subject: str, payload: bytes) -> None:
        """Queue ``payload``, in place of what was queued about ``subject``."""
        self.drop(subject)
        self._number += 1
        entry = _Entry(subject, payload, self._number)
        self._entries[subject] = entry
        insort(self._by_urgency, entry.urgency)

    def __contains__(self, subject: str) -> bool:
        return subject in self._entries

    def take(self, room: int, overhead: int, limit: int, copies: int = 1) -> list[bytes]:
        """Messages for one datagram with ``room`` bytes, ``overhead`` bytes spent for each.

        Those sent least come first, among equals the newest. The datagram goes to ``copies``
        members; each message counts as sent so many times more, and is dropped when it was sent
        ``limit`` times.
        """
        if not self._entries:
            return []
        taken = []
        looked_at = misses = 0
        kept = []
        for urgency in self._by_urgency:
            if room <= overhead or misses == _MISSES:
                break
            looked_at += 1
            entry = urgency[2]
            cost = len(entry.payload) + overhead
            if cost > room:
                misses += 1
                kept.append(urgency)
            else:
                room -= cost
                taken.append(entry)
        self._by_urgency[:looked_at] = kept
        for entry in taken:
            entry.sent += copies
            if entry.sent >= limit:
                del self._entries[entry.subject]
            else:
                insort(self._by_urgency, entry.urgency)
        return [entry.payload for entry in taken]

    def drop(self, subject: str) -> None:
        """Forget what is queued about ``subject``."""
        entry = self._entries.pop(subject, None)
        if entry is not None:
            del self._by_urgency[bisect_left(self._by_urgency, entry.urgency)]
