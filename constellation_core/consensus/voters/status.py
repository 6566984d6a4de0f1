"""What an agent tells of its part in consensus."""

from __future__ import annotations

from dataclasses import dataclass, field

from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.interface import Engine, EngineStatus
from constellation_core.consensus.state import ReplicatedState
from constellation_core.consensus.voters.network import Part


@dataclass(frozen=True, slots=True)
class Standing:
    """How this agent stands. All of it but the last three is for the others to know.

    Attributes:
        part: see :class:`~.network.Part`.
        willing: whether its settings let it vote.
        id: the UUID of its voter's directory.
        address: ``IP:port`` of its engine.
        cluster: the cluster UUID that it knows of, or ``None``.
        wanted: how many voters its settings ask for.
        operations: up to which version its code knows operations.
        former: UUIDs that the cluster had before it was recovered or restored.
        doing: what is being done about the voters, or waited for, in a sentence.
        problems: what somebody should look after, in sentences.
    """

    part: Part
    willing: bool
    id: str
    address: str
    cluster: str | None
    wanted: int
    operations: int
    former: tuple[str, ...] = ()
    doing: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningVoter:
    """This agent's engine, from its start to its end.

    Attributes:
        engine: the engine. Not to be started or stopped by others.
        state: what it drives.
        access: the way to the replicated state on this voter.
    """

    engine: Engine
    state: ReplicatedState
    access: LocalAccess = field(repr=False)

    @property
    def status(self) -> EngineStatus:
        """The engine's."""
        return self.engine.status
