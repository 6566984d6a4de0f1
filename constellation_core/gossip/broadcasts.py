"""What is still to be gossiped: bounded, the freshest first, newest word per subject."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


def retransmit_limit(multiplier: int, nodes: int) -> int:
    """How often a message is sent before it is taken to have reached all."""
    return multiplier * math.ceil(math.log10(nodes + 1))


@dataclass(slots=True)
class _Entry:
    subject: str
    payload: bytes
    number: int
    sent: int = field(default=0)


class BroadcastQueue:
    """Messages to piggyback on gossip, each sent a limited number of times.

    A message replaces the waiting one about the same subject, so that the queue is bounded by
    the number of subjects.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, subject: str, payload: bytes) -> None:
        """Queue ``payload``, in place of what was queued about ``subject``."""
        self._number += 1
        self._entries[subject] = _Entry(subject, payload, self._number)

    def __contains__(self, subject: str) -> bool:
        return subject in self._entries

    def take(self, room: int, overhead: int, limit: int) -> list[bytes]:
        """Messages for one datagram with ``room`` bytes, ``overhead`` bytes spent for each.

        Those sent least come first, among equals the newest. Each counts as sent once more, and
        is dropped when it was sent ``limit`` times.
        """
        taken = []
        for entry in self._by_urgency():
            cost = len(entry.payload) + overhead
            if cost > room:
                continue
            room -= cost
            taken.append(entry.payload)
            entry.sent += 1
            if entry.sent >= limit:
                del self._entries[entry.subject]
            if room <= overhead:
                break
        return taken

    def drop(self, subject: str) -> None:
        """Forget what is queued about ``subject``."""
        self._entries.pop(subject, None)

    def _by_urgency(self) -> Iterable[_Entry]:
        return sorted(self._entries.values(), key=lambda entry: (entry.sent, -entry.number))
