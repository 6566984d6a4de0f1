"""What an agent and its plugins use of consensus, whoever keeps it.

The built-in voters are one backend; a plugin may bring another (an etcd cluster). The same
conformance tests hold for all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from constellation_core.consensus.leases import Lease, LeaseView
from constellation_core.consensus.state import Entry
from constellation_core.consensus.store import TIMEOUT
from constellation_core.consensus.watching import Changes


class KeyValues(Protocol):
    """Small keys and values, the same on every node; :class:`~.store.Store` says it in full."""

    async def get(self, key: str, *, stale: bool = False, timeout: float = TIMEOUT) -> Entry | None:
        """The key's value and revision; ``None`` when there is no such key."""
        ...

    async def list(
        self, prefix: str, *, stale: bool = False, timeout: float = TIMEOUT
    ) -> tuple[Entry, ...]:
        """All entries whose keys begin with ``prefix``, by key, as they were at one moment."""
        ...

    async def put(self, key: str, value: bytes, *, timeout: float = TIMEOUT) -> int:
        """Write, whatever stands there; the entry's new revision."""
        ...

    async def compare_and_set(
        self, key: str, value: bytes, expected: int, *, timeout: float = TIMEOUT
    ) -> int:
        """Write if the key's revision is ``expected`` (0: there is no such key)."""
        ...

    async def delete(
        self, key: str, *, expected: int | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Remove the key, if it is there; with ``expected``, if its revision is this one."""
        ...

    def watch(self, prefix: str) -> AsyncIterator[Changes]:
        """The entries whose keys begin with ``prefix``, then what changes of them."""
        ...


class LeaseHolder(Protocol):
    """Leases of one agent; :class:`~.leases.Leases` says it in full."""

    def hold(
        self,
        name: str,
        *,
        ttl: float | None = None,
        wait_out: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """A block that runs while this agent, and in it this block alone, holds the lease."""
        ...

    def watch(self, name: str) -> AsyncIterator[LeaseView | None]:
        """Who holds the lease, now and after each change; ``None`` while nobody does."""
        ...

    def watch_all(self) -> AsyncIterator[Mapping[str, LeaseView]]:
        """Who holds which lease, all of them by name, now and after each change."""
        ...


class ConsensusBackend(Protocol):
    """A way to agree. Its ``store`` and ``leases`` can be used as soon as it is made; what is
    asked of them before it has started, or while a majority is out of reach, waits or raises
    :class:`~.interface.Unavailable`."""

    @property
    def name(self) -> str:
        """In a word: ``raft``, ``etcd``."""
        ...

    @property
    def store(self) -> KeyValues: ...

    @property
    def leases(self) -> LeaseHolder: ...

    async def run(self) -> None:
        """Keep it going until cancelled. Holders must have been closed before."""
        ...

    async def close(self) -> None:
        """End all blocks that hold a lease, and release what they held. Then ``run`` may end."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """How things stand, ready for JSON: members, who leads, what is wrong. Holds no secret.

        ``backend`` (its name, or ``None`` where there is none), ``available`` (whether it was of
        use lately), ``leader`` (a name or ``None``) and ``problems`` (sentences for people) are
        always there.
        """
        ...
