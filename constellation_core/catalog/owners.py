"""What one owner has published, in versions that only it counts.

An owner's life has an epoch, and in it a counter, the version. Every change takes the next
version, so ``(epoch, version)`` names a state of the owner's rows, and "all rows above version v"
is everything that a node which knows v lacks. The model is that of Scuttlebutt (van Renesse et
al., 2008). Rows that come before what leads up to them are kept all the same: each row by itself
is the owner's word, and a failure must not wait for the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgpack

from constellation_core.catalog.rows import MAX_OWNER, MAX_ROWS, Row

_MOST_RANGES = 32
_UNKNOWN_MARK = 0

RowChange = tuple[str, Row | None, Row | None]
"""Key, old and new row of what changed; ``None`` for no row."""


class Known(NamedTuple):
    """A state of an owner's rows.

    Attributes:
        epoch: the life of the owner.
        version: all changes up to it are known.
        mark: of the rows themselves, so that a state of the same version with other rows is
            noticed; 0 where that cannot be said.
    """

    epoch: int = 0
    version: int = 0
    mark: int = 0

    def contradicts(self, other: Known) -> bool:
        """Whether both cannot be the same owner's word."""
        return (
            (self.epoch, self.version) == (other.epoch, other.version)
            and self.mark != other.mark
            and _UNKNOWN_MARK not in (self.mark, other.mark)
        )


@dataclass(frozen=True, slots=True)
class Update:
    """What brings a node that knows version ``base`` of an owner up to ``version``.

    Attributes:
        owner: whose rows these are.
        epoch: the life of the owner.
        base: the version that it follows on; 0 for a whole snapshot.
        version: the version it leads to.
        rows: the rows that differ, tombstones among them.
        damaged: whether rows were left out because they could not be accepted.
    """

    owner: str
    epoch: int
    base: int
    version: int
    rows: tuple[Row, ...]
    damaged: bool = False
    by_key: Mapping[str, Row] = field(init=False, repr=False, compare=False)
    """The rows; where a key stands twice, the newer one. Who takes a snapshot keeps just this."""

    def __post_init__(self) -> None:
        by_key: dict[str, Row] = {}
        for row in self.rows:
            known = by_key.get(row.key)
            if known is None or known.version < row.version:
                by_key[row.key] = row
        object.__setattr__(self, "by_key", by_key)


@dataclass(slots=True)
class OwnerState:
    """All that is known of one owner's rows.

    Attributes:
        owner: its name.
        epoch: its life.
        version: all changes up to it are known.
        rows: by key; tombstones among them.
        buried: the highest version of a tombstone that was dropped: below it only a snapshot helps.
        heard: the highest version that anybody spoke of.
        damaged: whether rows are missing that could not be accepted.
        size: what the rows count for.
    """

    owner: str
    epoch: int = 0
    version: int = 0
    rows: Mapping[str, Row] = field(default_factory=dict)
    buried: int = 0
    heard: int = 0
    damaged: bool = False
    size: int = 0
    _beyond: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of versions that are known beyond a gap."""
    _newest: int = 0
    _mark: int | None = None

    def __post_init__(self) -> None:
        self.heard = max(self.heard, self.version)

    @property
    def complete(self) -> bool:
        """Whether this is a state that the owner had, so that others can be given it."""
        return self._newest <= self.version and not self.damaged

    @property
    def known(self) -> Known:
        """The name of this state."""
        if self._mark is None:
            self._mark = self._make_mark() if self.complete else _UNKNOWN_MARK
        return Known(self.epoch, self.version, self._mark)

    def lacks(self, known: Known) -> bool:
        """Whether somebody who knows this state of the same life knows more."""
        return known.version > self.version

    def is_news(self, update: Update) -> bool:
        """Whether ``update`` has anything that is not known yet."""
        if update.epoch != self.epoch:
            return True
        if update.version <= self.version:
            # As nearly always: with gossip, everything comes a dozen times.
            return False
        return (
            update.version > self.heard
            or update.base <= self.version
            or any(self._is_newer(row) for row in update.rows)
        )

    def apply(
        self, update: Update, *, most: int = MAX_OWNER, instead: bool = False
    ) -> list[RowChange]:
        """Take the update over. An update of another epoch ends what is known of this one.

        Args:
            update: of this owner.
            most: what all rows may count for afterwards.
            instead: take a snapshot of the same version, too: it is the owner's own word.

        Returns:
            What changed, without tombstones.

        Raises:
            ValueError: when these are more rows than an owner may have; nothing changes then.
        """
        anew = update.epoch != self.epoch
        version = 0 if anew else self.version
        before = self.rows
        leads_on = update.base <= version < update.version or (
            instead and update.base == 0 and version == update.version
        )
        whole = leads_on and update.base == 0
        rows: Mapping[str, Row] = {} if anew else before
        if whole:
            rows = {key: row for key, row in rows.items() if row.version > update.version}
        newer = {
            key: row
            for key, row in update.by_key.items()
            if (whole or row.version > version)
            and ((known := rows.get(key)) is None or known.version < row.version)
        }
        # Where nothing else is known, all nodes of a simulation can share the snapshot's map.
        rows = {**rows, **newer} if rows or not whole else update.by_key
        if whole or anew:
            size = sum(row.size for row in rows.values())
            newest = max((row.version for row in rows.values()), default=0)
        else:
            replaced = [old for key in newer if (old := before.get(key)) is not None]
            size = self.size + sum(row.size for row in newer.values())
            size -= sum(row.size for row in replaced)
            newest = max((row.version for row in newer.values()), default=0)
            newest = max(newest, self._newest)
        if len(rows) > MAX_ROWS or size > most:
            raise ValueError(f"{self.owner} publishes more than fits")
        if anew:
            self.epoch, self.version, self.heard, self.buried = update.epoch, 0, 0, 0
            self.damaged = False
            self._beyond.clear()
        self.rows, self.size, self._newest, self._mark = rows, size, newest, None
        self.heard = max(self.heard, update.version)
        if leads_on or update.version > self.version:
            self.damaged = update.damaged or (self.damaged and not whole)
        if leads_on:
            self.version = update.version
            self._close_gaps()
        elif update.version > self.version and update.rows:
            self._beyond = sorted((*self._beyond, (update.base, update.version)))[-_MOST_RANGES:]
        if whole:
            self.buried = max(self.buried, update.version)
        touched = before.keys() | rows.keys() if whole or anew else update.by_key.keys()
        return _differences(before, rows, touched)

    def since(self, version: int) -> Update:
        """What brings somebody who knows ``version`` of this epoch up to date."""
        if version <= 0 or version < self.buried or version > self.version:
            living = tuple(row for row in self.rows.values() if row.value is not None)
            return Update(self.owner, self.epoch, 0, self.version, living)
        newer = tuple(row for row in self.rows.values() if row.version > version)
        return Update(self.owner, self.epoch, version, self.version, newer)

    def bury(self, keys: Iterable[str]) -> None:
        """Drop these tombstones for good, but for those that came before what leads up to them."""
        rows = dict(self.rows)
        for key in keys:
            row = rows.get(key)
            if row is not None and row.value is None and row.version <= self.version:
                self.buried = max(self.buried, row.version)
                self.size -= row.size
                del rows[key]
        self.rows = rows

    def restamp(self, epoch: int, version: int) -> None:
        """Say everything anew, as of this version: what others know of it before is void."""
        living = [row for row in self.rows.values() if row.value is not None]
        self.rows = {row.key: replace(row, version=version) for row in living}
        self.size = sum(row.size for row in living)
        self.epoch, self.version, self.heard = epoch, version, version
        self.buried = self._newest = version
        self._mark = None

    def _is_newer(self, row: Row) -> bool:
        if row.version <= self.version:
            return False
        known = self.rows.get(row.key)
        return known is None or known.version < row.version

    def _close_gaps(self) -> None:
        left = []
        for base, version in self._beyond:
            if base <= self.version < version:
                self.version = version
            elif version > self.version:
                left.append((base, version))
        self._beyond = left

    def _make_mark(self) -> int:
        living = sorted(
            (row.key, row.version, row.data) for row in self.rows.values() if row.value is not None
        )
        digest = hashlib.blake2b(msgpack.packb(living), digest_size=4).digest()
        return int.from_bytes(digest) or 1


def _differences(
    before: Mapping[str, Row], after: Mapping[str, Row], keys: Iterable[str]
) -> list[RowChange]:
    changes = []
    for key in sorted(keys):
        old, new = _living(before.get(key)), _living(after.get(key))
        if (old.data if old else None) != (new.data if new else None):
            changes.append((key, old, new))
    return changes


def _living(row: Row | None) -> Row | None:
    return row if row is not None and row.value is not None else None
