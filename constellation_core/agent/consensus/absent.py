"""A node without consensus: everything that needs it says why, at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, NoReturn

from constellation_core.consensus.interface import Unavailable
from constellation_core.consensus.leases import Lease, LeaseView
from constellation_core.consensus.state import Entry
from constellation_core.consensus.store import TIMEOUT
from constellation_core.consensus.watching import Changes


class AbsentConsensus:
    """A :class:`~constellation_core.consensus.backend.ConsensusBackend` that has nothing.

    Args:
        reason: why, in a sentence for people.
    """

    name = "none"

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self.store = _NoStore(reason)
        self.leases = _NoLeases(reason)

    async def run(self) -> None:
        """There is nothing to do."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is held."""

    def describe(self) -> Mapping[str, Any]:
        """Why there is none."""
        return {
            "backend": None,
            "available": False,
            "leader": None,
            "problems": [self._reason],
        }


class _NoStore:
    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def get(self, key: str, *, stale: bool = False, timeout: float = TIMEOUT) -> Entry | None:
        self._refuse(key, stale, timeout)

    async def list(
        self, prefix: str, *, stale: bool = False, timeout: float = TIMEOUT
    ) -> tuple[Entry, ...]:
        self._refuse(prefix, stale, timeout)

    async def put(self, key: str, value: bytes, *, timeout: float = TIMEOUT) -> int:
        self._refuse(key, value, timeout)

    async def compare_and_set(
        self, key: str, value: bytes, expected: int, *, timeout: float = TIMEOUT
    ) -> int:
        self._refuse(key, value, expected, timeout)

    async def delete(
        self, key: str, *, expected: int | None = None, timeout: float = TIMEOUT
    ) -> None:
        self._refuse(key, expected, timeout)

    async def watch(self, prefix: str) -> AsyncIterator[Changes]:
        yield self._refuse(prefix)

    def _refuse(self, *_: object) -> NoReturn:
        raise Unavailable(self._reason)


class _NoLeases:
    def __init__(self, reason: str) -> None:
        self._reason = reason

    def hold(
        self,
        name: str,  # noqa: ARG002
        *,
        ttl: float | None = None,  # noqa: ARG002
        wait_out: bool = False,  # noqa: ARG002
        on_lost: Callable[[], None] | None = None,  # noqa: ARG002
    ) -> AbstractAsyncContextManager[Lease]:
        return _NoLease(self._reason)

    async def watch(self, name: str) -> AsyncIterator[LeaseView | None]:  # noqa: ARG002
        yield None
        await asyncio.Event().wait()

    async def watch_all(self) -> AsyncIterator[Mapping[str, LeaseView]]:
        yield {}
        await asyncio.Event().wait()


class _NoLease(AbstractAsyncContextManager[Lease]):
    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def __aenter__(self) -> Lease:
        raise Unavailable(self._reason)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Never reached."""
