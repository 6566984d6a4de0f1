"""A group of replicas in one thread: virtual time, a network that cuts and delays, disks that lose.

Real are the replica with the library inside, the messages' encoding, the journal and the
snapshots. Simulated are time, the connections, and power cuts: of what was not synced, any
part may be missing afterwards. The invariants are those of the Raft paper (figure 3): one leader
in a term, equal entries at equal indexes of the state machines, nothing acknowledged lost.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from constellation_core.consensus.engine.commands import Change, apply_command, change_command
from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.messages import Message, decode_message, encode_message
from constellation_core.consensus.engine.proposals import Answer, Proposal
from constellation_core.consensus.engine.replica import Replica, Timing
from constellation_core.consensus.engine.storage import create, open_storage
from constellation_core.consensus.interface import Role, Voter
from constellation_core.testing.consensus.record import Record

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


@dataclass(frozen=True, slots=True)
class Flight:
    """A message on its way."""

    due: float
    data: bytes


class Node:
    """One voter, which crashes and comes back."""

    def __init__(self, simulation: Simulation, voter: Voter, path: Path) -> None:
        self.voter = voter
        self.id = voter.id
        self._simulation = simulation
        self._path = path
        self.replica: Replica | None = None
        self.record = ObservedRecord(simulation.observer)
        self._durable = 0
        self._outbox: list[tuple[str, bytes]] = []
        self._fault: tuple[str, int] | None = None

    # What the replica calls.

    def send(self, voter: str, message: Message) -> bool:
        """Queue a message until the journal is durable."""
        if not self._simulation.linked(self.id, voter):
            return False
        self._outbox.append((voter, encode_message(message)))
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
        self.record = ObservedRecord(self._simulation.observer)
        if storage.snapshot is not None:
            self.record.restore(storage.snapshot.state)
        self._storage = storage
        clock = self._simulation.clock
        timing = self._simulation.timing
        self.replica = Replica(storage, self.record, self, timing, clock, self._reach)

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
        for sender, data in messages:
            replica.receive(sender, decode_message(data))
        replica.turn()
        self._storage.journal.sync()
        outbox, self._outbox = self._outbox, []
        return outbox

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
        messages = []
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
        node = Node(self, voter, path)
        self.nodes[voter.id] = node
        return node
