"""One key that every write to the store goes through: how large the store is, and who wrote last.

etcd has no sessions of clients in which a request is done once, and knows no limit of a part of
its keys. Both come from here. A write is a transaction that holds only if the ledger was not
written since it was read, and writes it. So

- it is carried out once at most, however often it is sent, and never after another write;
- whether it was, the write that followed on the ledger that was read tells: each leaves a mark of
  its own, and etcd keeps the history;
- the size is exact.

Writes to the store thereby follow one after the other. It is no place for many of them anyway.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from constellation_core.consensus import Unavailable, Unknown
from constellation_core.consensus.state.limits import ENTRY_COST
from constellation_plugin_etcd.attempts import Attempts
from constellation_plugin_etcd.client import Compacted, EtcdClient
from constellation_plugin_etcd.messages import (
    KeyValue,
    Outcome,
    Span,
    delete,
    get,
    modified_is,
    put,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A key and the ledger, as they were at one moment.

    Attributes:
        revision: the cluster's.
        entry: the key's; ``None`` when it is not there.
        size: bytes of all keys and values, as the store counts them.
        ledger: the revision at which the ledger was written; 0: never.
        writes: how often it was.
        mark: of its last write.
    """

    revision: int
    entry: KeyValue | None
    size: int
    ledger: int
    writes: int
    mark: str


class Ledger:
    """Reads and writes keys of the store together with the ledger.

    Args:
        client: etcd.
        prefix: of all keys of this fleet.
    """

    def __init__(self, client: EtcdClient, prefix: bytes) -> None:
        self.keys = prefix + b"keys/"
        self._client = client
        self._ledger = prefix + b"ledger"

    async def read(self, key: bytes, attempts: Attempts) -> Standing:
        """How things stand, after all that was acknowledged.

        Raises:
            Unavailable: no member answered in time.
        """
        both = [get(Span(key)), get(Span(self._ledger))]
        outcome = await attempts.read(lambda timeout: self._client.txn([], both, timeout=timeout))
        return await self._standing(key, outcome, attempts)

    async def recount(self, key: bytes, attempts: Attempts) -> Standing:
        """As :meth:`read`, but the size is counted, in case that others were at the keys.

        Raises:
            Unavailable: no member answered in time.
        """
        everything = [get(Span.below(self.keys)), get(Span(self._ledger))]
        outcome = await attempts.read(
            lambda timeout: self._client.txn([], everything, timeout=timeout)
        )
        all_keys, ledger = outcome.found
        entries = {entry.key: entry for entry in all_keys.entries}
        return Standing(
            outcome.revision,
            entries.get(key),
            sum(self.cost(entry.key, entry.value) for entry in entries.values()),
            *_last_write(ledger.only),
        )

    async def write(
        self,
        standing: Standing,
        key: bytes,
        value: bytes | None,
        size: int,
        mark: str,
        attempts: Attempts,
    ) -> int | Standing:
        """Write the key, or delete it, if nothing was written since ``standing`` was read.

        Args:
            standing: as it was read.
            key: all of it.
            value: ``None``: delete it.
            size: the store's, afterwards.
            mark: what nobody else uses, and this caller never again.
            attempts: to be made.

        Returns:
            The revision if it was done; how things stand if it was not, and never will be.

        Raises:
            Unavailable: it was not done, nor will it be.
            Unknown: it may be done.
        """
        before = modified_is(self._ledger, standing.ledger)
        unchanged = modified_is(key, standing.entry.modified if standing.entry else 0)
        note = json.dumps({"bytes": size, "mark": mark}).encode()
        change = delete(key) if value is None else put(key, value)
        both = [get(Span(key)), get(Span(self._ledger))]
        outcome = await attempts.change(
            lambda timeout: self._client.txn(
                [before, unchanged], [change, put(self._ledger, note)], both, timeout=timeout
            )
        )
        if outcome.succeeded:
            return outcome.revision
        now = await self._standing(key, outcome, attempts)
        # Whatever the answer says, a copy of the request may have been carried out before.
        done = await self._done_at(standing, now, mark, attempts)
        return now if done is None else done

    def cost(self, key: bytes, value: bytes) -> int:
        """What an entry adds to the size."""
        return len(key) - len(self.keys) + len(value) + ENTRY_COST

    async def _done_at(
        self, before: Standing, now: Standing, mark: str, attempts: Attempts
    ) -> int | None:
        """The revision of the first write after ``before``, if it left ``mark``."""
        if now.ledger == before.ledger:
            return None
        if now.writes == before.writes + 1:
            return now.ledger if now.mark == mark else None
        try:
            entry = await attempts.read(
                lambda timeout: self._client.next_write(
                    self._ledger, before.ledger, timeout=timeout
                )
            )
        except (Compacted, Unavailable) as error:
            raise Unknown(f"it may be done, and etcd does not tell: {error}") from error
        return entry.modified if _last_write(entry)[2] == mark else None

    async def _standing(self, key: bytes, outcome: Outcome, attempts: Attempts) -> Standing:
        entry, ledger = (found.only for found in outcome.found)
        size = _size(ledger)
        if size is None:
            return await self.recount(key, attempts)
        return Standing(outcome.revision, entry, size, *_last_write(ledger))


def _last_write(ledger: KeyValue | None) -> tuple[int, int, str]:
    """Its revision, its number, and its mark."""
    if ledger is None:
        return 0, 0, ""
    return ledger.modified, ledger.version, str(_note(ledger).get("mark", ""))


def _size(ledger: KeyValue | None) -> int | None:
    """The size in a ledger; ``None`` when there is none, or somebody else wrote it."""
    size = None if ledger is None else _note(ledger).get("bytes")
    return size if isinstance(size, int) else None


def _note(ledger: KeyValue) -> dict[str, Any]:
    try:
        note = json.loads(ledger.value)
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}
