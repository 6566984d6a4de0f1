"""What one owner has published, in versions that only it counts.

An owner's life has an epoch, which is greater than that of every earlier life, and in it a
counter, the version. Every change takes the next version, so ``(epoch, version)`` names a state
of the owner's rows, and "all rows above version v" is everything that a node which knows v
lacks. The model is that of Scuttlebutt (van Renesse et al., 2008).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from constellation_core.catalog.rows import MAX_ROWS, Row


@dataclass(frozen=True, slots=True)
class Update:
    """What brings a node that knows version ``base`` of an owner up to ``version``.

    Attributes:
        owner: whose rows these are.
        epoch: the life of the owner.
        base: the version to which it can be applied; 0 for a whole snapshot, which can always be.
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
    """All that is known of one owner's rows."""

    owner: str
    epoch: int = 0
    version: int = 0
    rows: Mapping[str, Row] = field(default_factory=dict)
    buried: int = 0
    """The highest version of a tombstone that has been dropped: below it only a snapshot helps."""

    def fits(self, update: Update) -> bool:
        """Whether ``update`` leads from what is known here to something newer."""
        if update.epoch > self.epoch:
            return update.base == 0
        return (
            update.epoch == self.epoch
            and update.base <= self.version
            and update.version > self.version
        )

    def lacks(self, epoch: int, version: int) -> bool:
        """Whether somebody who knows this state knows more."""
        return (epoch, version) > (self.epoch, self.version)

    def apply(self, update: Update) -> list[tuple[str, Row | None, Row | None]]:
        """Take the update over; ``(key, old, new)`` of what changed, without tombstones."""
        before = self.rows
        whole = update.base == 0
        rows = update.by_key
        if not whole and update.epoch == self.epoch:
            newer = {
                key: row
                for key, row in rows.items()
                if (known := before.get(key)) is None or known.version < row.version
            }
            rows = {**before, **newer}
        if len(rows) > MAX_ROWS:
            raise ValueError(f"{self.owner} publishes more than {MAX_ROWS} rows")
        self.epoch, self.version, self.rows = update.epoch, update.version, rows
        if whole:
            self.buried = max(self.buried, update.version)
        touched = before.keys() | rows.keys() if whole else update.by_key.keys()
        changes = []
        for key in sorted(touched):
            old, new = _living(before.get(key)), _living(rows.get(key))
            if (old.data if old else None) != (new.data if new else None):
                changes.append((key, old, new))
        return changes

    def since(self, version: int) -> Update:
        """What brings somebody who knows ``version`` of this epoch up to date."""
        if version <= 0 or version < self.buried or version > self.version:
            living = tuple(row for row in self.rows.values() if row.value is not None)
            return Update(self.owner, self.epoch, 0, self.version, living)
        newer = tuple(row for row in self.rows.values() if row.version > version)
        return Update(self.owner, self.epoch, version, self.version, newer)

    def bury(self, keys: Iterable[str]) -> None:
        """Drop these tombstones for good."""
        rows = dict(self.rows)
        for key in keys:
            row = rows.get(key)
            if row is not None and row.value is None:
                self.buried = max(self.buried, row.version)
                del rows[key]
        self.rows = rows


def _living(row: Row | None) -> Row | None:
    return row if row is not None and row.value is not None else None
