"""Where other agents may be found: the interface of discovery plugins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class PeerSource(Protocol):
    """A source of gossip addresses, such as a tailnet or a DNS name."""

    @property
    def name(self) -> str:
        """For logs and ``constellation status``."""

    async def peers(self) -> Sequence[str]:
        """Addresses to try, each ``HOST:PORT`` or ``HOST`` (then with our own gossip port)."""
