"""The store in etcd: a :class:`~constellation_core.consensus.backend.KeyValues`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from random import Random

from constellation_core.consensus import Unavailable
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.state import Entry
from constellation_core.consensus.state.entries import key_fits
from constellation_core.consensus.state.limits import MAX_KEY, MAX_TOTAL, MAX_VALUE
from constellation_core.consensus.store import TIMEOUT, CompareFailed, StoreFull
from constellation_core.consensus.watching import Changes
from constellation_plugin_etcd.attempts import Attempts
from constellation_plugin_etcd.client import EtcdClient
from constellation_plugin_etcd.following import follow
from constellation_plugin_etcd.ledger import Ledger, Standing
from constellation_plugin_etcd.messages import Found, KeyValue, Span

_RECOUNT = 60.0
"""Seconds between two looks at all entries because the store seems to be full."""


class EtcdStore:
    """Keys and values; what is promised is what the core's store promises.

    An entry's revision is its ``mod_revision`` in etcd. Values stand in etcd as they are, at
    ``PREFIXkeys/KEY``.

    Args:
        client: etcd.
        clock: for waits and time limits.
        random: chance in the waits, and marks; must not repeat itself after a restart.
        prefix: of all keys of this fleet.
    """

    def __init__(self, client: EtcdClient, clock: BootClock, random: Random, prefix: bytes) -> None:
        self._client = client
        self._clock = clock
        self._random = random
        self._ledger = Ledger(client, prefix)
        self._recounted: float | None = None
        self._writing = asyncio.Lock()

    async def get(self, key: str, *, stale: bool = False, timeout: float = TIMEOUT) -> Entry | None:
        """As :meth:`~constellation_core.consensus.store.Store.get`."""
        found = await self._read(Span(self._full(key)), stale, timeout)
        return self._entry(found.only) if found.only else None

    async def list(
        self, prefix: str, *, stale: bool = False, timeout: float = TIMEOUT
    ) -> tuple[Entry, ...]:
        """As :meth:`~constellation_core.consensus.store.Store.list`."""
        found = await self._read(Span.below(self._full(prefix)), stale, timeout)
        return tuple(self._entry(each) for each in found.entries)

    async def put(self, key: str, value: bytes, *, timeout: float = TIMEOUT) -> int:
        """As :meth:`~constellation_core.consensus.store.Store.put`."""
        return await self._write(key, value, None, timeout)

    async def compare_and_set(
        self, key: str, value: bytes, expected: int, *, timeout: float = TIMEOUT
    ) -> int:
        """As :meth:`~constellation_core.consensus.store.Store.compare_and_set`."""
        return await self._write(key, value, expected, timeout)

    async def delete(
        self, key: str, *, expected: int | None = None, timeout: float = TIMEOUT
    ) -> None:
        """As :meth:`~constellation_core.consensus.store.Store.delete`."""
        await self._write(key, None, expected, timeout)

    async def watch(self, prefix: str) -> AsyncIterator[Changes]:
        """As :meth:`~constellation_core.consensus.store.Store.watch`."""
        span = Span.below(self._full(prefix))
        following = follow(self._client, self._clock, self._random, span)
        async with aclosing(following) as happening:
            async for news in happening:
                yield Changes(
                    news.revision,
                    tuple(self._entry(each) for each in news.entries),
                    tuple(self._name(key) for key in news.gone),
                )

    async def _read(self, span: Span, stale: bool, timeout: float) -> Found:
        attempts = Attempts(self._clock, self._random, timeout)
        return await attempts.read(
            lambda seconds: self._client.range(span, serializable=stale, timeout=seconds)
        )

    async def _write(
        self, key: str, value: bytes | None, expected: int | None, timeout: float
    ) -> int:
        if not key_fits(key):
            raise ValueError(f"a key has 1 to {MAX_KEY} bytes")
        if value is not None and len(value) > MAX_VALUE:
            raise ValueError(f"a value has at most {MAX_VALUE} bytes")
        attempts = Attempts(self._clock, self._random, timeout)
        # Writes of one agent would only be in each other's way.
        try:
            async with asyncio.timeout(timeout):
                await self._writing.acquire()
        except TimeoutError:
            raise Unavailable("writes before this one were not done in time") from None
        try:
            return await self._write_in_turn(key, value, expected, attempts)
        finally:
            self._writing.release()

    async def _write_in_turn(
        self, key: str, value: bytes | None, expected: int | None, attempts: Attempts
    ) -> int:
        full = self._full(key)
        standing = await self._ledger.read(full, attempts)
        while True:
            entry = standing.entry
            current = entry.modified if entry else 0
            if expected is not None and expected != current:
                raise CompareFailed(key, current)
            if value is None and entry is None:
                return standing.revision
            size = standing.size + self._growth(full, value, entry)
            if size > max(standing.size, MAX_TOTAL):
                standing = await self._counted_anew(full, attempts)
                continue
            mark = f"{self._random.getrandbits(64):016x}"
            outcome = await self._ledger.write(standing, full, value, max(size, 0), mark, attempts)
            if isinstance(outcome, int):
                return outcome
            standing = outcome

    async def _counted_anew(self, key: bytes, attempts: Attempts) -> Standing:
        """How things stand when the size is counted; the store seems to be full.

        Raises:
            StoreFull: it was counted a moment ago.
        """
        now = self._clock.boottime()
        if self._recounted is not None and now - self._recounted < _RECOUNT:
            raise StoreFull(f"the store takes {MAX_TOTAL} bytes in all")
        self._recounted = now
        return await self._ledger.recount(key, attempts)

    def _growth(self, key: bytes, value: bytes | None, entry: KeyValue | None) -> int:
        after = 0 if value is None else self._ledger.cost(key, value)
        before = 0 if entry is None else self._ledger.cost(key, entry.value)
        return after - before

    def _full(self, key: str) -> bytes:
        return self._ledger.keys + key.encode()

    def _name(self, key: bytes) -> str:
        return key[len(self._ledger.keys) :].decode(errors="replace")

    def _entry(self, each: KeyValue) -> Entry:
        return Entry(self._name(each.key), each.value, each.modified)
