"""What is set about voters, and how patient they are."""

from __future__ import annotations

from dataclasses import dataclass

SIZES = (1, 3, 5, 7)
"""Numbers of voters that make sense: an even one tolerates no more failures than one less."""


@dataclass(frozen=True, slots=True)
class VoterTimes:
    """Seconds.

    Attributes:
        settle: for so long nothing about who could found a cluster may have changed.
        stable: so long must an agent be alive before it is made a voter.
        dead: so long must a voter be dead to the membership, and silent to the leader, before
            another takes its place.
        catch_up: within so long must a new voter have the log, or it is removed again.
        removals: in so long at most a minority of the voters is removed.
        defer: so long a candidate that did not become a voter is not tried again.
        interval: between two looks at how things stand.
        answer: for one question to another agent.
        restart: between two attempts to start an engine that failed.
    """

    settle: float = 5.0
    stable: float = 30.0
    dead: float = 300.0
    catch_up: float = 30.0
    removals: float = 3600.0
    defer: float = 300.0
    interval: float = 1.0
    answer: float = 5.0
    restart: float = 15.0

    def __post_init__(self) -> None:
        if min(getattr(self, name) for name in self.__slots__) < 0 or self.interval <= 0:
            raise ValueError("no time is below 0, and the interval is above")


@dataclass(frozen=True, slots=True)
class VoterSettings:
    """One agent's.

    Attributes:
        name: the agent's.
        region: where it is.
        address: ``IP:port`` at which the other voters reach its engine.
        voters: how many there are to be; one of :data:`SIZES`, the same on all agents.
        vote: whether this agent may be one.
        times: patience.

    Raises:
        ValueError: for another number of voters.
    """

    name: str
    region: str
    address: str
    voters: int = 3
    vote: bool = True
    times: VoterTimes = VoterTimes()

    def __post_init__(self) -> None:
        if self.voters not in SIZES:
            raise ValueError(f"voters is one of {', '.join(map(str, SIZES))}, not {self.voters}")
