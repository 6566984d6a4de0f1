"""Timing and limits of the catalog."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CatalogConfig:
    """Timing and limits of the catalog.

    Attributes:
        sync_interval: seconds between two comparisons with a random node.
        pull_delay: a gap is pulled after a random time up to this, so that not all do at once;
            more among many nodes.
        gather: a change waits so long for others, so that they are told together; a failure
            does not wait.
        damping: seconds between two times that an instance is told to serve again.
        bytes_per_second: what broadcasts may use; the rest is left to the comparisons.
        burst: bytes that may be used at once after a calm time.
        message_size: largest broadcast; more is announced only, and pulled.
        retransmit_multiplier: scales how often a broadcast is sent.
        tombstone_seconds: how long a removal is remembered.
        warm_timeout: seconds after which an unanswered node works with what it knows.
    """

    sync_interval: float = 10.0
    pull_delay: float = 0.3
    gather: float = 0.2
    damping: float = 5.0
    bytes_per_second: float = 12_000.0
    burst: float = 24_000.0
    message_size: int = 1_200
    retransmit_multiplier: int = 3
    tombstone_seconds: float = 3_600.0
    warm_timeout: float = 30.0
