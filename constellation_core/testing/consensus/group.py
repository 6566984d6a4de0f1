"""Voters in one process and in virtual time, on which everything above an engine is tried.

This is no Raft: a group has one log, and what Raft promises holds by construction. What it does
not promise is drawn by chance: a proposal of a leader that is deposed survives or not, a leader
goes on believing that it leads, followers lag. Clients reach the voters over a network that
loses, delays and repeats. Every node has a clock of its own and can be paused::

    group = SimulatedGroup(Random(1), {"v1": SimulatedHost(), "v2": SimulatedHost()})
    group.elect("v1")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

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
from constellation_core.consensus.state import ReplicatedState

T = TypeVar("T")


class SimulatedHost:
    """A machine: its boot-time clock, and whether it runs at all.

    Args:
        rate: seconds that its clock counts in a second.
        boottime: what its clock shows at first.
    """

    def __init__(self, rate: float = 1.0, boottime: float = 0.0) -> None:
        self._rate = rate
        self._offset = boottime
        self._running = asyncio.Event()
        self._running.set()

    def boottime(self) -> float:
        """Its clock, which goes on while it is paused."""
        return self._offset + asyncio.get_running_loop().time() * self._rate

    async def sleep(self, seconds: float) -> None:
        """Wait by its clock, and until it runs."""
        await asyncio.sleep(max(seconds, 0.0) / self._rate)
        await self.gate()

    async def gate(self) -> None:
        """Return as soon as it runs: nothing of a paused machine goes on."""
        await self._running.wait()

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return not self._running.is_set()

    def pause(self) -> None:
        """Stop it, as ``SIGSTOP`` does."""
        self._running.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._running.set()


@dataclass(slots=True)
class GroupConditions:
    """How a group behaves; may be changed at any time.

    Attributes:
        commit: shortest and longest time until an entry is committed, in seconds.
        lag: shortest and longest time by which others than the leader apply later.
        survival: share of a deposed leader's proposals that are committed all the same.
        blindness: shortest and longest time until a deposed leader notices.
    """

    commit: tuple[float, float] = (0.001, 0.02)
    lag: tuple[float, float] = (0.0, 0.3)
    survival: float = 0.5
    blindness: tuple[float, float] = (0.0, 5.0)


@dataclass(slots=True)
class _Pending:
    voter: SimulatedVoter
    operation: bytes | None
    index: asyncio.Future[int] = field(default_factory=asyncio.Future)


class SimulatedGroup:
    """What the voters have in common: the log, and who leads.

    Args:
        random: all chance comes from it.
        hosts: the voters' machines, by the voters' names.
    """

    def __init__(self, random: Random, hosts: dict[str, SimulatedHost]) -> None:
        self.conditions = GroupConditions()
        self.random = random
        self.log: list[bytes | None] = []
        self.term = 0
        self.leader: SimulatedVoter | None = None
        self.voters = {name: SimulatedVoter(self, name, host) for name, host in hosts.items()}
        self._pending: list[_Pending] = []

    def elect(self, name: str | None) -> None:
        """``name`` leads from now on; nobody does with ``None``."""
        for pending in self._pending:
            if self.random.random() < self.conditions.survival:
                self._commit(pending)
        self._pending.clear()
        before, self.leader = self.leader, self.voters[name] if name else None
        self.term += 1
        loop = asyncio.get_running_loop()
        if before is not None and before is not self.leader:
            term = self.term
            loop.call_later(
                self.random.uniform(*self.conditions.blindness), before.notice, None, term
            )
        if self.leader is not None:
            self.leader.notice(self.leader, self.term)
            for voter in self.voters.values():
                if voter not in (self.leader, before):
                    delay = self.random.uniform(*self.conditions.blindness)
                    loop.call_later(delay, voter.notice, self.leader, self.term)

    async def append(self, voter: SimulatedVoter, operation: bytes | None) -> int:
        """The index at which it is committed; never returns when that does not happen.

        Also when it was committed by a later leader, the proposer is not told.
        """
        pending = _Pending(voter, operation)
        if voter is self.leader:
            self._pending.append(pending)
            asyncio.get_running_loop().call_later(
                self.random.uniform(*self.conditions.commit), self._commit_in_turn, pending
            )
        return await pending.index

    def _commit_in_turn(self, pending: _Pending) -> None:
        # All that was appended before is committed with it.
        while pending in self._pending:
            first = self._pending.pop(0)
            index = self._commit(first)
            first.voter.advance(index)
            if not first.index.done():
                first.index.set_result(index)

    def _commit(self, pending: _Pending) -> int:
        self.log.append(pending.operation)
        index = len(self.log)
        for voter in self.voters.values():
            if voter is not self.leader:
                delay = self.random.uniform(*self.conditions.lag)
                asyncio.get_running_loop().call_later(delay, voter.advance, index)
        return index


class SimulatedVoter:
    """An :class:`~constellation_core.consensus.interface.Engine` of a simulated group.

    Attributes:
        host: its machine.
        state: what it drives.
        machine: the same, where it does not drive another one.
        up: whether it answers.
    """

    def __init__(self, group: SimulatedGroup, name: str, host: SimulatedHost) -> None:
        self.host = host
        self.state = ReplicatedState()
        self.machine: StateMachine = self.state
        self.up = True
        self.name = name
        self._group = group
        self._term = 0
        self._leader: SimulatedVoter | None = None
        self._applied = 0
        self._results: dict[int, bytes] = {}
        self._listeners: list[Callable[[int], None]] = []

    async def start(self) -> None:
        """Nothing is to be done."""

    async def stop(self) -> None:
        """Nothing is to be done."""

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """As the engine's."""
        index = await self._append(operation, timeout)
        return self._results[index]

    async def barrier(self, *, timeout: float) -> int:
        """As the engine's."""
        return await self._append(None, timeout)

    async def read(self, query: Callable[[], T]) -> T:
        """As the engine's."""
        await self.host.gate()
        if not self.up:
            raise Unavailable("down")
        return query()

    @property
    def status(self) -> EngineStatus:
        """What this voter believes."""
        leads = self._leader is self
        return EngineStatus(
            Role.LEADER if leads else Role.FOLLOWER,
            self.name,
            leader=Voter(self._leader.name, self._leader.name) if self._leader else None,
            term=self._term,
            applied_index=self._applied,
        )

    def on_applied(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """As the engine's."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def add_voter(self, voter: Voter, *, timeout: float) -> None:
        """Refused."""
        raise MembershipRefused(f"{voter.id} in {timeout} s: the voters are fixed here")

    async def remove_voter(self, voter_id: str, *, timeout: float) -> None:
        """Refused."""
        raise MembershipRefused(f"{voter_id} in {timeout} s: the voters are fixed here")

    async def transfer_leadership(self, voter_id: str | None = None) -> None:
        """Elect it."""
        self._group.elect(voter_id)

    def notice(self, leader: SimulatedVoter | None, term: int) -> None:
        """Hear who leads."""
        if term > self._term or (term == self._term and self._leader is None):
            self._term, self._leader = term, leader
            self._tell()
            if leader is self:
                self.advance(len(self._group.log))

    def advance(self, index: int) -> None:
        """Apply up to ``index``."""
        if index <= self._applied:
            return
        while self._applied < index:
            operation = self._group.log[self._applied]
            self._applied += 1
            if operation is not None:
                self._results[self._applied] = self.machine.apply(self._applied, operation)
        self._tell()

    async def _append(self, operation: bytes | None, timeout: float) -> int:
        await self.host.gate()
        if not self.up:
            raise Unavailable("down")
        if self._leader is not self:
            raise NotLeader(self.status.leader)
        try:
            async with asyncio.timeout(timeout):
                return await self._group.append(self, operation)
        except TimeoutError:
            raise Unknown("not committed in time") from None
        finally:
            await self.host.gate()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener(self._applied)
