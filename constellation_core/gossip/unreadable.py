"""Tells the operator of those who send what no key of this node opens."""

from __future__ import annotations

import logging

log = logging.getLogger("constellation.gossip")

_EVERY = 60.0
_MOST_SOURCES = 128


class UnreadableLog:
    """Warns of each source once a minute, not with every packet."""

    def __init__(self) -> None:
        self._warned: dict[str, float] = {}

    def warn(self, source: str, now: float) -> None:
        """``source``, an IP literal, sent something that no key opens."""
        if now - self._warned.get(source, -_EVERY) < _EVERY:
            return
        if len(self._warned) > _MOST_SOURCES:
            self._warned.clear()
        self._warned[source] = now
        log.warning(
            "%s sends gossip that the cluster key of this node does not open: either it has "
            "another key (compare the fingerprints that `constellation status` shows) or it "
            "does not belong to this cluster",
            source,
        )
