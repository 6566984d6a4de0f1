"""Counters of the gossip: what went in and out, and what could not be read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from constellation_core.gossip.messages import MessageType

_MOST_SOURCES = 256
_LAG_KEPT = 0.9
"""Share of the largest lag that is remembered from one poll to the next."""


@dataclass(slots=True)
class Unreadable:
    """Messages from one address that no key of ours opens.

    Attributes:
        count: how many so far.
        last: when the last one came, in seconds of the protocol's clock.
    """

    count: int
    last: float


class Tally:
    """Messages and their bytes, by type."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[int, list[int]] = {}

    def add(self, kind: int, size: int, copies: int = 1) -> None:
        """Count a message of ``size`` bytes whose type byte is ``kind``."""
        seen = self._seen.get(kind)
        if seen is None:
            seen = self._seen[kind] = [0, 0]
        seen[0] += copies
        seen[1] += copies * size

    @property
    def bytes(self) -> int:
        """Bytes of all messages."""
        return sum(size for _, size in self._seen.values())

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Messages and bytes by the name of the type, such as ``push_pull``."""
        return {_name(kind): (count, size) for kind, (count, size) in sorted(self._seen.items())}


def _name(kind: int) -> str:
    try:
        return MessageType(kind).name.lower()
    except ValueError:
        return f"type_{kind}"


@dataclass(slots=True)
class Stats:
    """What the protocol counted since it started.

    Attributes:
        datagrams_in, datagrams_out, bytes_in, bytes_out: UDP, as sent and received.
        parts_in, parts_out: the messages in these datagrams, before encryption.
        streams_in, streams_out: messages over TCP, as sent and received.
        malformed: datagrams and stream messages that could not be decoded.
        incompatible: what was said and not believed; :attr:`last_incompatible` tells why.
        undecryptable: by source address, at most 256 of the latest; a cluster with another
            key, or somebody who should not be there.
        round_trips: the last round-trip time to each member, in seconds.
        stalls: how often this process was found to have been standing still.
        lag: by how many seconds this process was lately late for its timers.
    """

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    parts_in: Tally = field(default_factory=Tally)
    parts_out: Tally = field(default_factory=Tally)
    streams_in: Tally = field(default_factory=Tally)
    streams_out: Tally = field(default_factory=Tally)
    malformed: int = 0
    incompatible: int = 0
    last_incompatible: str = ""
    undecryptable: OrderedDict[str, Unreadable] = field(default_factory=OrderedDict)
    round_trips: dict[str, float] = field(default_factory=dict)
    stalls: int = 0
    lag: float = 0.0

    @property
    def stream_bytes_in(self) -> int:
        """Bytes received over TCP."""
        return self.streams_in.bytes

    @property
    def stream_bytes_out(self) -> int:
        """Bytes sent over TCP."""
        return self.streams_out.bytes

    def count_late(self, seconds: float) -> None:
        """A timer was late by so much."""
        self.lag = max(seconds, self.lag * _LAG_KEPT)

    def count_incompatible(self, reason: str) -> None:
        """Count something that was said and not believed."""
        self.incompatible += 1
        self.last_incompatible = reason

    def count_undecryptable(self, source: str, now: float) -> Unreadable:
        """Count a message from ``source`` that no key opens."""
        entry = self.undecryptable.pop(source, None) or Unreadable(0, now)
        entry.count += 1
        entry.last = now
        self.undecryptable[source] = entry
        if len(self.undecryptable) > _MOST_SOURCES:
            self.undecryptable.popitem(last=False)
        return entry
