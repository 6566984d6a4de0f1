"""What a consensus engine offers to the code above it, and what it asks of the state machine.

Raft (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014) orders
operations; a state machine carries them out, the same ones in the same order on every voter.
Nothing here names a library: another engine can take the place of the built-in one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")


class ConsensusError(Exception):
    """Base of what an engine raises."""


class NotLeader(ConsensusError):
    """This voter does not lead; nothing was done.

    Attributes:
        hint: who is thought to lead, or ``None``. A hint may be out of date.
    """

    def __init__(self, hint: Voter | None = None) -> None:
        super().__init__(f"not the leader; try {hint.address}" if hint else "not the leader")
        self.hint = hint


class Unavailable(ConsensusError):
    """Nothing was done, and nothing will be: the engine is overloaded, halted or stopped."""


class Unknown(ConsensusError):
    """The operation may be done, now or later; retry it with the same request id."""


class ApplyFailed(ConsensusError):
    """The state machine raised while it carried out the operation: a defect of its own."""


class MembershipRefused(ConsensusError):
    """The change of the voters is refused and nothing was done; the text says why."""


class Corrupt(ConsensusError):
    """What is on disk cannot be trusted, so this voter must not vote with it.

    The way back is to remove it from the voters, to clear its directory, and to add it as a
    new voter.
    """


@dataclass(frozen=True, slots=True, order=True)
class Voter:
    """A member of the consensus group.

    Attributes:
        id: a UUID that was made with the voter's data directory and dies with it.
        address: ``host:port`` on which it answers the other voters; an IPv6 host in brackets.
    """

    id: str
    address: str


class Role(StrEnum):
    """What a voter is at the moment."""

    STOPPED = "stopped"
    JOINING = "joining"
    """It has an empty log and waits for a leader to add it."""
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    REMOVED = "removed"
    """The voters it knows of do not include itself."""
    FAILED = "failed"
    """It halted, because it could no longer keep its promises; ``failure`` says why."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How an engine sees the group; for display and for autopilot, never a proof of anything.

    Attributes:
        role: what this voter is.
        me: this voter's id.
        leader: the voter that is thought to lead, or ``None``.
        term: Raft's term.
        commit_index: highest index known to be on a majority.
        applied_index: highest index that the state machine has seen.
        last_index: highest index in the log.
        voters: the latest configuration in the log, committed or not.
        change_pending: a change of the voters is in the log and not yet committed.
        match: on a leader, how far each other voter's log is known to agree, by id.
        heard: on a leader, how many seconds ago each other voter last answered, by id; counted
            from when this voter began to lead, or the other was added, when it has not since.
        log_entries: entries in the journal.
        log_bytes: size of the journal file.
        snapshot_index: the index up to which the snapshot stands for the log.
        refused: connections and frames that were refused since the start.
        failure: why the engine halted, else ``None``.
    """

    role: Role
    me: str
    leader: Voter | None = None
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    voters: tuple[Voter, ...] = ()
    change_pending: bool = False
    match: tuple[tuple[str, int], ...] = ()
    heard: tuple[tuple[str, float], ...] = ()
    log_entries: int = 0
    log_bytes: int = 0
    snapshot_index: int = 0
    refused: int = 0
    failure: str | None = None


class StateMachine(Protocol):
    """Given to an engine, which calls it on its own thread only.

    It reads no clock, draws no random number and does no input or output, so that every voter
    comes to the same state.
    """

    def apply(self, index: int, operation: bytes) -> bytes:
        """Carry out ``operation``. Never raises: what goes wrong is a result."""
        ...

    def snapshot(self) -> bytes:
        """All of the state."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Become what :meth:`snapshot` gave, whatever the state was before.

        Raises:
            ValueError: for a snapshot that it cannot read; the voter then refuses to vote.
        """
        ...


class Engine(Protocol):
    """A voter, seen from asyncio. One event loop uses it; it may have threads inside."""

    async def start(self) -> None:
        """Read what is on disk, and take part.

        Raises:
            Corrupt: what is on disk cannot be trusted.
            Unavailable: the address cannot be bound, or another process uses the directory.
        """
        ...

    async def stop(self) -> None:
        """Leave off. What waits for a result raises :class:`Unknown`. Idempotent."""
        ...

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """Have ``operation`` carried out by every voter, and give this voter's result.

        Args:
            operation: opaque; at most ``MAX_OPERATION`` of the engine.
            timeout: seconds to wait.

        Raises:
            NotLeader: nothing was done.
            Unavailable: nothing was done.
            Unknown: it may be done, now or later.
            ApplyFailed: the state machine raised.
            ValueError: the operation is too large.
        """
        ...

    async def barrier(self, *, timeout: float) -> int:
        """Commit a no-op, so that all that was acknowledged before is applied here.

        Returns:
            The no-op's index: another voter that has applied it has seen as much.

        Raises:
            NotLeader: as :meth:`propose`.
            Unavailable: as :meth:`propose`.
            Unknown: as :meth:`propose`; retrying is harmless.
        """
        ...

    async def read(self, query: Callable[[], T]) -> T:
        """Call ``query`` on the thread that applies, between two entries.

        What ``query`` raises is raised here.

        Raises:
            Unavailable: the engine is halted or stopped.
        """
        ...

    @property
    def status(self) -> EngineStatus:
        """The latest view, a few hundred milliseconds old at most."""
        ...

    def on_applied(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """Have ``listener`` called in the event loop, with the index up to which was applied.

        Several entries may make one call. The listener must not raise.

        Returns:
            A function that ends it.
        """
        ...

    async def add_voter(self, voter: Voter, *, timeout: float) -> None:
        """Add a voter; returns when the change is committed.

        Raises:
            MembershipRefused: another change is pending, or this one makes no sense.
            NotLeader: nothing was done.
            Unavailable: nothing was done.
            Unknown: it may be done, now or later.
        """
        ...

    async def remove_voter(self, voter_id: str, *, timeout: float) -> None:
        """Remove a voter, but never the leader itself; raises as :meth:`add_voter`."""
        ...

    async def transfer_leadership(self, voter_id: str | None = None) -> None:
        """Ask another voter, by default the one that is furthest, to be elected at once.

        It is only asked: watch :attr:`status` for what comes of it.

        Raises:
            NotLeader: this voter does not lead.
            MembershipRefused: no other voter has the whole log.
        """
        ...
