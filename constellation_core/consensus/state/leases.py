"""Leases: who may do what only one may do, with a number that fences what it writes.

A lease that nobody holds is not stored: epochs come from one counter for all of them, so none is
ever given twice, whatever was forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgpack

from constellation_core.consensus.state.limits import MAX_RELEASED


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that is held.

    Attributes:
        name: what it is for.
        holder: who holds it.
        epoch: fences what the holder writes; higher than that of any grant before.
        ttl: milliseconds.
        renewals: how often it was renewed.
        revision: the state's, at the grant.
    """

    name: str
    holder: str
    epoch: int
    ttl: int
    renewals: int
    revision: int

    def value(self) -> bytes:
        """What a query tells of it."""
        packed: bytes = msgpack.packb([self.holder, self.epoch, self.ttl])
        return packed


class LeaseTable:
    """The leases that are held.

    Attributes:
        epoch: the highest that was ever given.
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self._by_name: dict[str, Held] = {}
        self._by_epoch: dict[int, str] = {}
        # In the order of their release, so that every voter forgets the same ones.
        self._released: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def all(self) -> tuple[Held, ...]:
        """All that are held, by name."""
        return tuple(self._by_name[name] for name in sorted(self._by_name))

    def released(self) -> tuple[str, ...]:
        """Names whose last holder released them, the one released longest ago first."""
        return tuple(self._released)

    def get(self, name: str) -> Held | None:
        """The lease, if it is held."""
        return self._by_name.get(name)

    def with_epoch(self, epoch: int) -> Held | None:
        """The lease that is held with ``epoch``."""
        name = self._by_epoch.get(epoch)
        return None if name is None else self._by_name[name]

    def grant(self, name: str, holder: str, ttl: int, revision: int) -> tuple[Held, bool]:
        """Give it to ``holder``; and whether the one before released it."""
        self.end(name)
        clean = name in self._released
        self._released.pop(name, None)
        self.epoch += 1
        held = Held(name, holder, self.epoch, ttl, 0, revision)
        self.restore(held)
        return held, clean

    def renew(self, epoch: int) -> bool:
        """Count a renewal; false when it is not held with ``epoch``."""
        held = self.with_epoch(epoch)
        if held is None:
            return False
        self._by_name[held.name] = replace(held, renewals=held.renewals + 1)
        return True

    def end(self, name: str, *, released: bool = False) -> None:
        """It is free from now on."""
        held = self._by_name.pop(name, None)
        if held is not None:
            del self._by_epoch[held.epoch]
        if released:
            self.remember_release(name)

    def remember_release(self, name: str) -> None:
        """Note that the last holder of ``name`` was done with it."""
        self._released.pop(name, None)
        self._released[name] = None
        if len(self._released) > MAX_RELEASED:
            del self._released[next(iter(self._released))]

    def restore(self, held: Held) -> None:
        """Put back a lease from a snapshot."""
        self._by_name[held.name] = held
        self._by_epoch[held.epoch] = held.name
