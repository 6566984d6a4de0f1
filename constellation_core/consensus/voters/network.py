"""What is known of the other agents, and how they are asked: given by whoever uses this package."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from constellation_core.consensus.interface import ConsensusError, Engine, StateMachine, Voter


class UnreachableError(ConsensusError):
    """A node gave no answer; what it was asked for may be done all the same."""


class Part(StrEnum):
    """What an agent is in consensus, as it says itself; one letter, as it travels."""

    NONE = "n"
    """It does not vote and does not want to, or cannot at the moment."""
    CANDIDATE = "c"
    """It holds nothing that counts, and would vote."""
    JOINING = "j"
    """It waits, with an empty log, to be added to the voters."""
    VOTER = "v"
    """It holds a voter's data, and its engine runs."""
    FAILED = "f"
    """It holds a voter's data, or cannot tell whether it does, and its engine does not run."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent, as the membership tells of it.

    Attributes:
        name: the agent's.
        region: where it is; voters are spread over regions.
        address: ``IP:port`` at which its engine is reached, an IPv6 literal in brackets.
        alive: whether the membership believes so.
        since: the second of this machine's boot-time clock since which ``alive`` is what it is.
        part: what it says that it is.
        willing: whether its settings let it vote.
        id: the UUID of its voter's directory; of the one that it would use, if it is a candidate.
        cluster: the cluster UUID that it knows of; ``None`` as long as it knows of none.
        wanted: how many voters its settings ask for.
        operations: up to which version its code knows operations.
    """

    name: str
    region: str
    address: str
    alive: bool
    since: float
    part: Part
    willing: bool
    id: str
    cluster: str | None
    wanted: int
    operations: int


class Membership(Protocol):
    """The agents that are known."""

    def candidates(self) -> tuple[Candidate, ...]:
        """All of them, dead ones as long as they are remembered, but not this agent itself."""
        ...

    @property
    def joined(self) -> bool:
        """Whether another agent was reached since the start, or none is known by the settings.

        An agent that was told of others and has met none knows nothing: it founds nothing.
        """
        ...


class Caller(Protocol):
    """Asks another agent."""

    async def call(self, node: str, request: bytes, *, timeout: float) -> bytes:
        """Give ``request`` to :meth:`~.lifecycle.VoterLifecycle.answer` of an agent.

        Args:
            node: its name.
            request: at most 16 KiB.
            timeout: seconds for all of it.

        Raises:
            UnreachableError: there was no answer.
        """
        ...


class Engines(Protocol):
    """Makes this machine's engine. Asking for an identity imports no engine."""

    def identity(self, directory: Path) -> tuple[str, str] | None:
        """The cluster's and the voter's UUID in a directory; ``None`` when it is no voter's.

        Raises:
            Corrupt: they cannot be read.
        """
        ...

    def create(
        self, directory: Path, cluster: str, voter: str, founders: tuple[Voter, ...] | None
    ) -> None:
        """Make a voter's directory; with ``founders`` for a new group, else to join one.

        Raises:
            OSError: it cannot be written.
            ValueError: the voter is none of the founders, or something is not a UUID.
            Unavailable: it is a voter's already.
        """
        ...

    def open(self, directory: Path, machine: StateMachine) -> Engine:
        """An engine on a directory, not started."""
        ...

    async def check_address(self) -> None:
        """Try whether the engine's address could be bound now.

        Raises:
            Unavailable: it cannot.
        """
        ...

    async def reach(self, cluster: str, voter: Voter, *, timeout: float) -> None:
        """Try whether the engine at a voter's address is that voter's, and shares the key.

        Args:
            cluster: the cluster's UUID.
            voter: who should be there.
            timeout: seconds.

        Raises:
            UnreachableError: it is not there.
        """
        ...
