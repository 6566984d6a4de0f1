"""What the way to each member is like: which of UDP, TCP and other members reach it.

A member that is alive may still be hard to reach: a firewall that lets TCP through and drops UDP,
a route that works in one direction only. Gossip goes on through others, so nobody would notice
until it matters; therefore it is named. One lost packet is no news: a way has to be bad twice in
a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from constellation_core.gossip.member import Address

_TWICE = 2
_FRESH = 60.0
"""Seconds for which a datagram or an answer over TCP shows that its way works."""


class Path(StrEnum):
    """How a member is reached."""

    DIRECT = "direct"
    ONE_WAY = "one-way"
    """Its datagrams come here, ours do not reach it."""
    UDP_BLOCKED = "udp-blocked"
    """It answers over TCP; no datagram of its comes here."""
    RELAYED = "relayed"
    """Only other members reach it."""


@dataclass(slots=True)
class _Trouble:
    address: Address
    times: int = 0
    heard: float = -math.inf
    by_stream: float = -math.inf


class Paths:
    """The ways that are not direct, by member."""

    def __init__(self) -> None:
        self._troubles: dict[str, _Trouble] = {}
        self._at: dict[Address, _Trouble] = {}

    def unanswered(self, name: str, address: Address) -> None:
        """A direct ping got no answer in time: listen for datagrams from there."""
        trouble = self._troubles.get(name)
        if trouble is None or trouble.address != address:
            self.forget(name)
            self._troubles[name] = self._at[address] = _Trouble(address)

    def heard(self, source: Address, now: float) -> None:
        """A datagram came from there."""
        trouble = self._at.get(source)
        if trouble is not None:
            trouble.heard = now

    def answered_directly(self, name: str) -> None:
        """A direct ping was answered."""
        self.forget(name)

    def answered_otherwise(self, name: str) -> None:
        """The member answered over TCP or through others, and not directly."""
        trouble = self._troubles.get(name)
        if trouble is not None:
            trouble.times += 1

    def answered_by_stream(self, name: str, now: float) -> None:
        """The member answered over TCP, perhaps after others had reached it."""
        trouble = self._troubles.get(name)
        if trouble is not None:
            trouble.by_stream = now

    def forget(self, name: str) -> None:
        """The member is gone, or its way is well."""
        trouble = self._troubles.pop(name, None)
        if trouble is not None and self._at.get(trouble.address) is trouble:
            del self._at[trouble.address]

    def to(self, name: str, now: float) -> Path:
        """How the member is reached now."""
        trouble = self._troubles.get(name)
        if trouble is None or trouble.times < _TWICE:
            return Path.DIRECT
        if now - trouble.heard < _FRESH:
            return Path.ONE_WAY
        return Path.UDP_BLOCKED if now - trouble.by_stream < _FRESH else Path.RELAYED

    def bad(self, now: float) -> dict[str, Path]:
        """All members that are not reached directly."""
        found = {name: self.to(name, now) for name in sorted(self._troubles)}
        return {name: path for name, path in found.items() if path is not Path.DIRECT}
