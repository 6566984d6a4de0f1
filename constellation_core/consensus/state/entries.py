"""Keys and values with the revisions at which they were written."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from constellation_core.consensus.state.limits import (
    ENTRY_COST,
    MAX_KEY,
    MAX_TOTAL,
    MAX_VALUE,
)
from constellation_core.consensus.state.queries import Entry
from constellation_core.consensus.state.results import Reason


def key_fits(key: str) -> bool:
    """Whether ``key`` is of a length that the state takes."""
    return 1 <= len(key.encode()) <= MAX_KEY


class Entries:
    """The keys and values.

    Attributes:
        size: bytes as :data:`~.limits.MAX_TOTAL` counts them.
    """

    def __init__(self) -> None:
        self.size = 0
        self._entries: dict[str, Entry] = {}
        # By code points, which is also the order of the UTF-8 bytes.
        self._keys: list[str] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return (self._entries[key] for key in self._keys)

    def get(self, key: str) -> Entry | None:
        """The key's entry."""
        return self._entries.get(key)

    def revision(self, key: str) -> int:
        """When the key was last written; 0 when there is none."""
        entry = self._entries.get(key)
        return entry.revision if entry else 0

    def below(self, prefix: str) -> tuple[Entry, ...]:
        """The entries whose keys begin with ``prefix``, by key."""
        found = []
        for at in range(bisect_left(self._keys, prefix), len(self._keys)):
            if not self._keys[at].startswith(prefix):
                break
            found.append(self._entries[self._keys[at]])
        return tuple(found)

    def refusal(self, key: str, value: bytes) -> Reason | None:
        """Why :meth:`put` must not be called, if there is a reason."""
        if not key_fits(key):
            return Reason.KEY_SIZE
        if len(value) > MAX_VALUE:
            return Reason.VALUE_SIZE
        before = self._entries.get(key)
        growth = _cost(key, value) - (_cost(key, before.value) if before else 0)
        # What makes it smaller is taken even when there is too much of it.
        return Reason.TOTAL_SIZE if growth > 0 and self.size + growth > MAX_TOTAL else None

    def put(self, key: str, value: bytes, revision: int) -> None:
        """Write an entry."""
        before = self._entries.get(key)
        if before is None:
            insort(self._keys, key)
        else:
            self.size -= _cost(key, before.value)
        self._entries[key] = Entry(key, value, revision)
        self.size += _cost(key, value)

    def remove(self, key: str) -> None:
        """Remove an entry that is there."""
        entry = self._entries.pop(key)
        del self._keys[bisect_left(self._keys, key)]
        self.size -= _cost(key, entry.value)


def _cost(key: str, value: bytes) -> int:
    return len(key.encode()) + len(value) + ENTRY_COST
