"""One simulated voter: a real replica and its files, with power that can be cut."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from constellation_core.consensus.engine.messages import (
    Message,
    decode_message,
    encode_message,
    leaves_early,
)
from constellation_core.consensus.engine.replica import Replica
from constellation_core.consensus.engine.storage import open_storage
from constellation_core.consensus.engine.timing import Timing
from constellation_core.consensus.interface import Voter
from constellation_core.testing.consensus.record import Record


class PowerCutError(Exception):
    """The voter stops here."""


@dataclass(slots=True)
class Observer:
    """What must hold for all replicas together."""

    leaders: dict[int, str] = field(default_factory=dict)
    applied: dict[int, bytes] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)

    def saw_leader(self, term: int, voter: str) -> None:
        """A voter leads in a term."""
        other = self.leaders.setdefault(term, voter)
        assert other == voter, f"two leaders in term {term}"

    def saw_applied(self, index: int, operation: bytes) -> None:
        """A state machine was given an operation."""
        other = self.applied.setdefault(index, operation)
        assert other == operation, f"two operations at index {index}: {other!r}, {operation!r}"


class ObservedRecord(Record):
    """Tells the observer what it is given."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def apply(self, index: int, operation: bytes) -> bytes:
        """Carry out an operation."""
        self._observer.saw_applied(index, operation)
        return super().apply(index, operation)


class Node:
    """One voter, which crashes and comes back.

    Args:
        voter: who it is.
        path: its directory, set up.
        observer: is told what it applies.
        timing: timeouts.
        clock: the virtual time.
        linked: whether two voters have a connection.
    """

    def __init__(
        self,
        voter: Voter,
        path: Path,
        observer: Observer,
        timing: Timing,
        clock: Callable[[], float],
        linked: Callable[[str, str], bool],
    ) -> None:
        self.voter = voter
        self.id = voter.id
        self._path = path
        self._observer = observer
        self._timing = timing
        self._clock = clock
        self._linked = linked
        self.replica: Replica | None = None
        self.record = ObservedRecord(observer)
        self._durable = 0
        self._outbox: list[tuple[str, bytes]] = []
        self._early = True
        self._fault: tuple[str, int] | None = None

    # What the replica calls.

    def send(self, voter: str, message: Message) -> bool:
        """Queue a message until the journal is durable."""
        if not self._linked(self.id, voter):
            return False
        self._outbox.append((voter, encode_message(message)))
        self._early = self._early and leaves_early(message)
        return True

    def know(self, voter: str, address: str) -> None:
        """Everybody is known here."""

    def forget(self, voter: str) -> None:
        """Everybody is known here."""

    def backlog(self, voter: str) -> int:  # noqa: ARG002
        """Nothing waits."""
        return 0

    # What the simulation does.

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.replica is not None

    def start(self) -> None:
        """Read the disk, and take part."""
        self._fault = None
        storage = open_storage(self._path, faults=self._reach, datasync=self._synced)
        self._durable = (self._path / "journal").stat().st_size
        self.record = ObservedRecord(self._observer)
        if storage.snapshot is not None:
            self.record.restore(storage.snapshot.state)
        self._storage = storage
        self.replica = Replica(storage, self.record, self, self._timing, self._clock, self._reach)

    def crash_at(self, point: str, count: int) -> None:
        """Cut the power when this point is passed for the count-th time."""
        self._fault = (point, count)

    def spare(self) -> None:
        """Take back :meth:`crash_at`."""
        self._fault = None

    def crash(self, chance: random.Random) -> None:
        """Cut the power now: of what was not synced, a part is on the disk."""
        if self.replica is not None:
            self._storage.close()
            self.replica = None
            self._outbox.clear()
            path = self._path / "journal"
            size = path.stat().st_size
            if self._durable < size:
                with path.open("r+b") as file:
                    file.truncate(chance.randint(self._durable, size))

    def turn(self, messages: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Handle what has come; gives what is to be sent.

        Raises:
            PowerCutError: at the fault point that was set.
        """
        replica = self.replica
        if replica is None:
            return []
        self._early = True
        for sender, data in messages:
            replica.receive(sender, decode_message(data))
        replica.turn()
        self._storage.journal.sync()
        outbox, self._outbox = self._outbox, []
        return outbox

    def escaped(self) -> list[tuple[str, bytes]]:
        """After a power cut: what may have left before the journal was durable."""
        return self._outbox if self._early else []

    def _synced(self, fd: int) -> None:  # noqa: ARG002
        self._durable = (self._path / "journal").stat().st_size

    def _reach(self, name: str) -> None:
        if name == "journal.trim.renamed":
            # A new file, which was synced before it got the name.
            self._durable = (self._path / "journal").stat().st_size
        if self._fault is not None and self._fault[0] == name:
            point, count = self._fault
            self._fault = (point, count - 1) if count > 1 else None
            if count == 1:
                raise PowerCutError(name)
