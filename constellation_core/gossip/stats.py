"""Counters of the gossip: what went in and out, and what could not be read."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

_MOST_SOURCES = 256


@dataclass(slots=True)
class Unreadable:
    """Messages from one address that no key of ours opens.

    Attributes:
        count: how many so far.
        last: when the last one came, in seconds of the protocol's clock.
    """

    count: int
    last: float


@dataclass(slots=True)
class Stats:
    """What the protocol counted since it started.

    Attributes:
        datagrams_in, datagrams_out, bytes_in, bytes_out: UDP, as sent and received.
        messages_in: messages by kind.
        malformed: datagrams and stream messages that could not be decoded.
        undecryptable: by source address, at most 256 of the latest; a cluster with another
            key, or somebody who should not be there.
        round_trips: the last round-trip time to each member, in seconds.
        tcp_only: members that answer over TCP but not over UDP: a firewall drops UDP.
        stalls: how often this process was found to have been standing still.
    """

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    stream_bytes_in: int = 0
    stream_bytes_out: int = 0
    messages_in: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    incompatible: int = 0
    undecryptable: OrderedDict[str, Unreadable] = field(default_factory=OrderedDict)
    round_trips: dict[str, float] = field(default_factory=dict)
    tcp_only: dict[str, float] = field(default_factory=dict)
    stalls: int = 0

    def count_undecryptable(self, source: str, now: float) -> Unreadable:
        """Count a message from ``source`` that no key opens."""
        entry = self.undecryptable.pop(source, None) or Unreadable(0, now)
        entry.count += 1
        entry.last = now
        self.undecryptable[source] = entry
        if len(self.undecryptable) > _MOST_SOURCES:
            self.undecryptable.popitem(last=False)
        return entry
