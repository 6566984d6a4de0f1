"""Engines in virtual time whose voters come and go, for what decides who votes.

This is no Raft either (see :mod:`.group`): a cluster has one log and one configuration, which all
of its voters know. What matters here is real: a cluster commits only what a majority of its
voters, running and connected with the leader, can acknowledge; a founder counts only once it has
written its files, and files that are gone do not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import (
    EngineStatus,
    MembershipRefused,
    NotLeader,
    Role,
    StateMachine,
    Unavailable,
    Unknown,
    Voter,
)
from constellation_core.consensus.voters.network import UnreachableError

T = TypeVar("T")

_TURN = 0.25
_GENESIS = 2


@dataclass(slots=True)
class SimulatedCluster:
    """What the voters of one cluster have in common.

    Attributes:
        founders: who founded it.
        voters: the configuration, committed or not.
        committed: the one that is committed.
        log: what was committed; entry 0 has the index 3.
        leader: who leads.
    """

    founders: tuple[Voter, ...]
    voters: tuple[Voter, ...]
    committed: tuple[Voter, ...]
    log: list[bytes | None] = field(default_factory=list)
    term: int = 0
    leader: SimulatedVoterEngine | None = None
    heard: dict[str, float] = field(default_factory=dict)
    match: dict[str, int] = field(default_factory=dict)

    @property
    def lives(self) -> bool:
        """Whether a majority has ever agreed on something."""
        return bool(self.log)

    @property
    def commit_index(self) -> int:
        """Raft's."""
        return _GENESIS + len(self.log)


class SimulatedClusters:
    """All clusters that were founded, and whose machines reach each other.

    Args:
        random: chooses leaders.
        linked: whether the machines with these names reach each other.
        now: seconds.
    """

    def __init__(
        self, random: Random, linked: Callable[[str, str], bool], now: Callable[[], float]
    ) -> None:
        self.by_id: dict[str, SimulatedCluster] = {}
        self.running: list[SimulatedVoterEngine] = []
        self.linked = linked
        self.now = now
        self._random = random

    def turn(self) -> None:
        """Elect, commit and replicate whatever can be; to be called a few times a second."""
        for cluster in self.by_id.values():
            self._elect(cluster)
            if cluster.leader is not None:
                self._replicate(cluster, cluster.leader)

    def reached(
        self, cluster: SimulatedCluster, center: SimulatedVoterEngine
    ) -> dict[str, SimulatedVoterEngine]:
        """The running voters of a configuration that one of them is connected with, by id."""
        ids = {each.id for each in cluster.voters}
        return {
            each.voter: each
            for each in self.running
            if each.shared is cluster
            and each.voter in ids
            and (each is center or self.linked(each.machine, center.machine))
        }

    def _elect(self, cluster: SimulatedCluster) -> None:
        leader = cluster.leader
        if leader is not None and leader in self.running and self._leads(cluster, leader):
            return
        cluster.leader = None
        able = [
            each
            for each in self.running
            if each.shared is cluster and each.has_log and self._leads(cluster, each)
        ]
        if able:
            cluster.leader = self._random.choice(able)
            cluster.term += 1
            cluster.log.append(None)
            cluster.heard = {each.id: self.now() for each in cluster.voters}
            cluster.match = {}

    def _leads(self, cluster: SimulatedCluster, engine: SimulatedVoterEngine) -> bool:
        reached = self.reached(cluster, engine)
        return engine.voter in reached and 2 * len(reached) > len(cluster.voters)

    def _replicate(self, cluster: SimulatedCluster, leader: SimulatedVoterEngine) -> None:
        for voter, engine in self.reached(cluster, leader).items():
            engine.receive()
            cluster.heard[voter] = self.now()
            cluster.match[voter] = cluster.commit_index
        cluster.committed = cluster.voters


class SimulatedVoterEngine:
    """An :class:`~constellation_core.consensus.interface.Engine`."""

    def __init__(
        self,
        clusters: SimulatedClusters,
        machine: str,
        directory: Path,
        state: StateMachine,
        clock: BootClock,
    ) -> None:
        self._clusters = clusters
        self._path = directory / "identity"
        self._state = state
        self._clock = clock
        self._applied = 0
        self._listeners: list[Callable[[int], None]] = []
        document = json.loads(self._path.read_text())
        self.machine = machine
        self.voter: str = document["voter"]
        self.has_log: bool = document["log"]
        self._known: int = document["known"]
        self.shared = clusters.by_id[document["cluster"]]

    async def start(self) -> None:
        """See the interface."""
        self._clusters.running.append(self)
        self._apply(self._known)

    async def stop(self) -> None:
        """See the interface."""
        if self in self._clusters.running:
            self._clusters.running.remove(self)

    def receive(self) -> None:
        """Get what was committed."""
        if not self.has_log or self._known < len(self.shared.log):
            self.has_log = True
            self._known = len(self.shared.log)
            document = json.loads(self._path.read_text())
            self._path.write_text(json.dumps({**document, "log": True, "known": self._known}))
        self._apply(self._known)

    def _apply(self, until: int) -> None:
        before = self._applied
        for operation in self.shared.log[self._applied : until]:
            self._applied += 1
            if operation is not None:
                self._state.apply(_GENESIS + self._applied, operation)
        if self._applied > before:
            for listener in list(self._listeners):
                listener(_GENESIS + self._applied)

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """See the interface; the result is always empty."""
        await self._commit(operation, timeout)
        return b""

    async def barrier(self, *, timeout: float) -> int:
        """See the interface."""
        await self._commit(None, timeout)
        return self.shared.commit_index

    async def read(self, query: Callable[[], T]) -> T:
        """See the interface."""
        if self not in self._clusters.running:
            raise Unavailable("the engine has stopped")
        return query()

    def on_applied(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """See the interface."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def add_voter(self, voter: Voter, *, timeout: float) -> None:
        """See the interface."""
        self._check_change()
        if any(voter.id == e.id or voter.address == e.address for e in self.shared.voters):
            raise MembershipRefused("it, or its address, is a voter already")
        await self._change((*self.shared.voters, voter), timeout)

    async def remove_voter(self, voter_id: str, *, timeout: float) -> None:
        """See the interface."""
        self._check_change()
        left = tuple(each for each in self.shared.voters if each.id != voter_id)
        if voter_id == self.voter or len(left) == len(self.shared.voters):
            raise MembershipRefused("it is the leader, or no voter")
        await self._change(left, timeout)

    async def transfer_leadership(self, voter_id: str | None = None) -> None:
        """See the interface."""
        self._check_leads()
        reached = self._clusters.reached(self.shared, self)
        able = [each for each in reached.values() if each is not self and each.has_log]
        chosen = [each for each in able if voter_id in (None, each.voter)]
        if not chosen:
            raise MembershipRefused("no other voter, or not this one, has the whole log")
        self.shared.leader = chosen[0]
        self.shared.term += 1
        self.shared.match = {}
        self.shared.heard = {each.id: self._clusters.now() for each in self.shared.voters}

    @property
    def status(self) -> EngineStatus:
        """See the interface."""
        shared = self.shared
        leads = shared.leader is self
        others = [each.id for each in shared.voters if each.id != self.voter]
        led = shared.leader is not None and (
            leads or self._clusters.linked(self.machine, shared.leader.machine)
        )
        return EngineStatus(
            role=self._role(),
            me=self.voter,
            leader=next(
                (e for e in shared.voters if led and shared.leader and e.id == shared.leader.voter),
                None,
            ),
            term=shared.term,
            commit_index=_GENESIS + self._applied if self.has_log else 0,
            applied_index=_GENESIS + self._applied if self.has_log else 0,
            last_index=_GENESIS + self._applied if self.has_log else 0,
            voters=shared.voters if self.has_log else (),
            change_pending=shared.voters != shared.committed,
            match=tuple((each, shared.match.get(each, 0)) for each in others) if leads else (),
            heard=tuple(
                (each, self._clusters.now() - shared.heard.get(each, self._clusters.now()))
                for each in others
            )
            if leads
            else (),
        )

    def _role(self) -> Role:
        if self not in self._clusters.running:
            return Role.STOPPED
        if not self.has_log:
            return Role.JOINING
        if self.voter not in {each.id for each in self.shared.voters}:
            return Role.REMOVED
        return Role.LEADER if self.shared.leader is self else Role.FOLLOWER

    def _check_leads(self) -> None:
        if self.shared.leader is not self:
            raise NotLeader

    def _check_change(self) -> None:
        self._check_leads()
        if self.shared.voters != self.shared.committed:
            raise MembershipRefused("another change is pending")

    async def _change(self, voters: tuple[Voter, ...], timeout: float) -> None:
        self.shared.voters = voters
        for each in voters:
            self.shared.heard.setdefault(each.id, self._clusters.now())
        await self._commit(None, timeout)

    async def _commit(self, operation: bytes | None, timeout: float) -> None:
        self._check_leads()
        deadline = self._clock.boottime() + timeout
        await self._clock.sleep(_TURN)
        while self.shared.leader is self and self._clock.boottime() < deadline:
            reached = self._clusters.reached(self.shared, self)
            if 2 * len(reached) > len(self.shared.voters):
                self.shared.log.append(operation)
                self._clusters.turn()
                return
            await self._clock.sleep(_TURN)
        raise Unknown("no majority in time")


class SimulatedEngines:
    """The :class:`~constellation_core.consensus.voters.network.Engines` of one machine.

    Attributes:
        address_error: why its address cannot be bound now.
        created: called whenever a voter's files were made.
    """

    def __init__(
        self,
        clusters: SimulatedClusters,
        machine: str,
        clock: BootClock,
        machine_at: Callable[[str], str | None],
    ) -> None:
        self._clusters = clusters
        self._machine = machine
        self._clock = clock
        self._machine_at = machine_at
        self.address_error: str | None = None
        self.created: Callable[[], None] = lambda: None

    def identity(self, directory: Path) -> tuple[str, str] | None:
        """See :class:`~.network.Engines`."""
        try:
            document = json.loads((directory / "identity").read_text())
        except FileNotFoundError:
            return None
        return document["cluster"], document["voter"]

    def create(
        self, directory: Path, cluster: str, voter: str, founders: tuple[Voter, ...] | None
    ) -> None:
        """See :class:`~.network.Engines`."""
        if (directory / "identity").exists():
            raise Unavailable("it is a voter's already")
        if founders is not None:
            made = SimulatedCluster(founders, founders, founders)
            known = self._clusters.by_id.setdefault(cluster, made)
            assert known.founders == founders, "founders with different lists"
        document = {"cluster": cluster, "voter": voter, "log": founders is not None, "known": 0}
        (directory / "identity").write_text(json.dumps(document))
        self.created()

    def open(self, directory: Path, machine: StateMachine) -> SimulatedVoterEngine:
        """See :class:`~.network.Engines`."""
        return SimulatedVoterEngine(self._clusters, self._machine, directory, machine, self._clock)

    async def check_address(self) -> None:
        """See :class:`~.network.Engines`."""
        if self.address_error is not None:
            raise Unavailable(self.address_error)

    async def reach(self, cluster: str, voter: Voter, *, timeout: float) -> None:  # noqa: ARG002
        """See :class:`~.network.Engines`."""
        machine = self._machine_at(voter.address)
        if machine is None or not self._clusters.linked(self._machine, machine):
            await self._clock.sleep(timeout)
            raise UnreachableError(f"{voter.address} is not reached")
