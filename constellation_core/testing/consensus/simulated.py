"""A group of replicas in one thread: virtual time, a network that cuts and delays, disks that lose.

Real are the replica with the library inside, the messages' encoding, the journal and the
snapshots. Simulated are time, the connections, and power cuts: of what was not synced, any
part may be missing afterwards. The invariants are those of the Raft paper (figure 3): one leader
in a term, equal entries at equal indexes of the state machines, nothing acknowledged lost.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from constellation_core.consensus.engine.commands import Change, apply_command, change_command
from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.proposals import Answer, Proposal
from constellation_core.consensus.engine.storage import create
from constellation_core.consensus.engine.timing import Timing
from constellation_core.consensus.interface import Role, Voter
from constellation_core.testing.consensus.simulated_voter import Node, Observer, PowerCutError

_POINTS = (
    "journal.append.half",
    "journal.append.unsynced",
    "journal.append.synced",
    "journal.trim.half",
    "journal.trim.synced",
    "journal.trim.renamed",
    "snapshot.half",
    "snapshot.synced",
    "snapshot.renamed",
)


@dataclass(frozen=True, slots=True)
class Flight:
    """A message on its way."""

    due: float
    data: bytes


class Simulation:
    """A group of voters under random faults.

    The library's clock must be :meth:`clock`, and its random numbers ``chance``, which it uses
    already while the voters are made; until then its clock must show 0.

    Args:
        root: an empty directory.
        chance: decides everything.
        size: voters at the beginning.
        step: seconds of one turn.
    """

    def __init__(
        self, root: Path, chance: random.Random, size: int = 3, step: float = 0.05
    ) -> None:
        self.chance = chance
        self.observer = Observer()
        self.timing = Timing(
            compact_entries=self.chance.choice((8, 30, 200)),
            # So small that what a voter lacks needs many messages.
            batch_bytes=self.chance.choice((100, 300, 256 * 1024)),
        )
        self._slowness = self.chance.choice((0.3, 1.0, 4.0))
        self._delay = self._slowness
        self.now = 0.0
        self._root = root
        self._step = step
        self._cluster = UUID(int=1)
        self._number = 0
        self._made = 0
        self._flights: dict[tuple[str, str], deque[Flight]] = {}
        self._arrived: dict[str, list[tuple[str, bytes]]] = {}
        self._cut: set[frozenset[str]] = set()
        self.nodes: dict[str, Node] = {}
        voters = tuple(self._voter() for _ in range(size))
        for voter in voters:
            self._make(voter, voters)
        for node in self.nodes.values():
            self.start(node)

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def linked(self, one: str, other: str) -> bool:
        """Whether a connection exists."""
        return (one, other) in self._flights

    def run(self, seconds: float, faults: float = 0.0) -> None:
        """Let time pass, with so many faults a second, and clients that write."""
        if faults:
            self._delay = self._slowness
        end = self.now + seconds
        while self.now < end:
            if self.chance.random() < faults * self._step:
                self._break_something()
            if self.chance.random() < 0.5:
                self.write()
            self.tick()

    def heal(self) -> None:
        """Mend the network and start everybody."""
        self._cut.clear()
        self._delay = 0.1
        for node in self.nodes.values():
            node.spare()
            if not node.up:
                self.start(node)

    def tick(self) -> None:
        """One turn of everybody, in any order."""
        self.now += self._step
        self._connect()
        nodes = list(self.nodes.values())
        self.chance.shuffle(nodes)
        for node in nodes:
            try:
                outbox = node.turn(self._due(node.id))
            except PowerCutError:
                self._escape(node)
                self.crash(node)
                continue
            for receiver, data in outbox:
                flights = self._flights.get((node.id, receiver))
                if flights is not None:
                    delay = self.chance.random() ** 6 * self._delay
                    due = max(self.now + delay, flights[-1].due if flights else 0)
                    flights.append(Flight(due, data))
            if node.replica is not None:
                view = node.replica.view(0)
                assert view.last_index >= view.applied_index, f"{node.id} dropped what is committed"
                if view.role is Role.LEADER:
                    self.observer.saw_leader(view.term, node.id)

    def _escape(self, node: Node) -> None:
        """What left a voter in the moment in which its power was cut arrives, or does not."""
        outbox = node.escaped()
        for receiver in dict.fromkeys(receiver for receiver, _ in outbox):
            flights = self._flights.get((node.id, receiver))
            if flights is not None and self.chance.random() < 0.7:
                sent = [flight.data for flight in flights]
                sent += [data for to, data in outbox if to == receiver]
                self._arrived.setdefault(receiver, []).extend((node.id, data) for data in sent)

    def write(self) -> None:
        """Ask somebody to carry out an operation, preferably who leads."""
        number = self._number
        self._number += 1

        def answer(given: Answer) -> None:
            if isinstance(given, bytes):
                self.observer.acknowledged.add(number)

        self._propose(Proposal(apply_command(b"%d" % number), answer))

    def change(self, change: Change) -> None:
        """Ask for a change of the voters; it may be refused."""
        self._propose(Proposal(change_command(change), lambda _: None, change))

    def leader(self) -> Node | None:
        """Who leads in the newest term, if anybody."""
        leading = [
            (node.replica.view(0).term, node.id)
            for node in self.nodes.values()
            if node.replica is not None and node.replica.view(0).role is Role.LEADER
        ]
        return self.nodes[max(leading)[1]] if leading else None

    def check(self) -> None:
        """After :meth:`heal`: somebody leads, nothing is lost, all voters are equal."""
        goal = self.now + 60
        while not self._settled():
            assert self.now < goal, self._describe()
            self.tick()
        leader = self.leader()
        assert leader is not None
        standing = leader.record.standing()
        lost = [number for number in self.observer.acknowledged if not standing.has(number)]
        assert not lost, f"lost {sorted(lost)}"
        assert standing.twice == 0
        for node in self._voting(leader):
            assert node.record.standing() == standing

    def start(self, node: Node) -> None:
        """Start a voter; its connections come up one after the other."""
        node.start()

    def crash(self, node: Node) -> None:
        """Cut a voter's power."""
        node.crash(self.chance)
        for pair in [pair for pair in self._flights if node.id in pair]:
            self._disconnect(*pair)

    def add_node(self) -> Node:
        """A machine with an empty disk, which waits to be added."""
        node = self._make(self._voter(), None)
        self.start(node)
        return node

    def _propose(self, proposal: Proposal) -> None:
        up = [node for node in self.nodes.values() if node.replica is not None]
        leader = self.leader()
        if leader is not None and self.chance.random() < 0.9:
            up = [leader]
        if up:
            replica = self.chance.choice(up).replica
            if replica is not None:
                replica.propose(proposal)

    def _break_something(self) -> None:
        leader = self.leader()
        node = self.chance.choice(list(self.nodes.values()))
        if leader is not None and self.chance.random() < 0.3:
            node = leader
        what = self.chance.random()
        if what < 0.15:
            self.crash(node)
        elif what < 0.35:
            self.crash(node)
            self.start(node)
        elif what < 0.5 and node.up:
            node.crash_at(self.chance.choice(_POINTS), self.chance.randint(1, 4))
        elif what < 0.53:
            for each in self.nodes.values():
                self.crash(each)
        elif what < 0.7:
            for each in self.nodes.values():
                if not each.up:
                    self.start(each)
        elif what < 0.8:
            # One side and the other; who is on which is left to chance.
            side = {each for each in self.nodes if self.chance.random() < 0.4} | {node.id}
            others = self.nodes.keys() - side
            self._cut |= {frozenset((one, other)) for one in side for other in others}
        elif what < 0.92:
            self._cut.clear()
        else:
            for _ in range(self.chance.randint(1, 3)):
                self._change_something()

    def _change_something(self) -> None:
        leader = self.leader()
        if leader is None or leader.replica is None:
            return
        voters = leader.replica.view(0).voters
        if len(voters) > 3 and self.chance.random() < 0.6:
            self.change(Change("remove", self.chance.choice(voters)))
        elif self._made < 9:
            self.change(Change("add", self.add_node().voter))

    def _connect(self) -> None:
        for one in self.nodes.values():
            for other in self.nodes.values():
                if one.id < other.id:
                    cut = frozenset((one.id, other.id)) in self._cut
                    wanted = one.up and other.up and not cut
                    if wanted and not self.linked(one.id, other.id) and self.chance.random() < 0.3:
                        self._flights[one.id, other.id] = deque()
                        self._flights[other.id, one.id] = deque()
                        for here, there in ((one, other), (other, one)):
                            if here.replica is not None:
                                here.replica.connected(there.id)
                    elif cut and self.linked(one.id, other.id):
                        self._disconnect(one.id, other.id)

    def _disconnect(self, one: str, other: str) -> None:
        for here, there in ((one, other), (other, one)):
            if self._flights.pop((here, there), None) is not None:
                replica = self.nodes[here].replica
                if replica is not None:
                    replica.disconnected(there)

    def _due(self, receiver: str) -> list[tuple[str, bytes]]:
        messages = self._arrived.pop(receiver, [])
        for (sender, to), flights in self._flights.items():
            while to == receiver and flights and flights[0].due <= self.now:
                messages.append((sender, flights.popleft().data))
        return messages

    def _voting(self, leader: Node) -> list[Node]:
        if leader.replica is None:
            return []
        return [self.nodes[voter.id] for voter in leader.replica.view(0).voters]

    def _settled(self) -> bool:
        leader = self.leader()
        if leader is None or leader.replica is None:
            return False
        views = [node.replica.view(0) for node in self._voting(leader) if node.replica is not None]
        own = leader.replica.view(0)
        newest = max(node.replica.view(0).term for node in self.nodes.values() if node.replica)
        return own.term == newest and all(
            view.applied_index == own.last_index == own.commit_index for view in views
        )

    def _describe(self) -> str:
        return "\n".join(
            f"{node.id[-4:]} {node.replica.view(0) if node.replica else 'down'}"
            for node in self.nodes.values()
        )

    def _voter(self) -> Voter:
        self._made += 1
        return Voter(str(UUID(int=self._made)), f"127.0.0.1:{7000 + self._made}")

    def _make(self, voter: Voter, voters: tuple[Voter, ...] | None) -> Node:
        path = self._root / voter.id
        path.mkdir()
        create(path, Identity(self._cluster, UUID(voter.id)), voters, b"")
        node = Node(voter, path, self.observer, self.timing, self.clock, self.linked)
        self.nodes[voter.id] = node
        return node
