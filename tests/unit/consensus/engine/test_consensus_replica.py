"""A replica, message by message: what the bare library gets wrong goes right here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pysyncobj import syncobj

from constellation_core.consensus.engine.commands import (
    NO_OP_COMMAND,
    Change,
    apply_command,
    change_command,
)
from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.messages import Message
from constellation_core.consensus.engine.proposals import Answer, Proposal
from constellation_core.consensus.engine.replica import Replica
from constellation_core.consensus.engine.storage import Storage, create, open_storage
from constellation_core.consensus.engine.timing import Timing
from constellation_core.consensus.interface import (
    ApplyFailed,
    MembershipRefused,
    NotLeader,
    Role,
    Unavailable,
    Unknown,
    Voter,
)

IDS = [str(UUID(int=number)) for number in range(1, 6)]
VOTERS = tuple(Voter(each, f"127.0.0.1:{7000 + n}") for n, each in enumerate(IDS))
CLUSTER = UUID(int=99)
PATIENT = Timing(
    election_min=1000, election_max=2000, heartbeat=100, leader_patience=1000, notice=50
)


class Machine:
    """Remembers what it carried out; ``poison`` makes it raise."""

    def __init__(self) -> None:
        self.done: list[bytes] = []

    def apply(self, index: int, operation: bytes) -> bytes:
        if operation == b"poison":
            raise ValueError("poison")
        if operation == b"memory":
            raise MemoryError
        self.done.append(operation)
        return b"did " + operation

    def snapshot(self) -> bytes:
        return b"".join(self.done)

    def restore(self, snapshot: bytes) -> None:
        self.done = [snapshot]


class Net:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []

    def send(self, voter: str, message: Message) -> bool:
        self.sent.append((voter, message))
        return True

    def know(self, voter: str, address: str) -> None: ...

    def forget(self, voter: str) -> None: ...

    def backlog(self, voter: str) -> int:
        return 0

    def take(self, kind: str) -> list[Message]:
        found = [message for _, message in self.sent if message["type"] == kind]
        self.sent.clear()
        return found


class Bench:
    """One replica, and the others played by the test."""

    def __init__(self, path: Path, size: int = 3) -> None:
        self.now = 0.0
        self.net = Net()
        self.machine = Machine()
        if not (path / "identity").exists():
            create(path, Identity(CLUSTER, UUID(IDS[0])), VOTERS[:size], b"")
        self.storage: Storage = open_storage(path, datasync=lambda _: None)
        if self.storage.snapshot and self.storage.snapshot.state:
            self.machine.restore(self.storage.snapshot.state)
        self.replica = Replica(self.storage, self.machine, self.net, PATIENT, lambda: self.now)
        for each in IDS[1:size]:
            self.replica.connected(each)

    @property
    def log(self) -> list[tuple[int, int]]:
        return [(index, term) for _, index, term in self.storage.journal[:]]

    def elect(self) -> None:
        """Make it the leader of a term."""
        self.replica._raft.election_deadline = 0
        self.replica.turn()
        for each in IDS[1 : len(self.replica.view(0).voters)]:
            term = self.replica.view(0).term + 1
            self.replica.receive(each, {"type": "pre_vote_reply", "term": term, "granted": True})
        self.replica.turn()
        term = self.replica.view(0).term
        for each in IDS[1:3]:
            self.replica.receive(each, {"type": "response_vote", "term": term})
        assert self.replica.view(0).role is Role.LEADER
        self.acknowledge()

    def acknowledge(self, *voters: str) -> None:
        """The others have all of the log."""
        view = self.replica.view(0)
        for each in voters or IDS[1:3]:
            self.replica.receive(
                each,
                {
                    "type": "next_node_idx",
                    "term": view.term,
                    "next_node_idx": view.last_index + 1,
                    "reset": False,
                    "success": True,
                },
            )
        self.replica.turn()

    def propose(self, command: bytes, change: Change | None = None) -> list[Answer]:
        answers: list[Answer] = []
        self.replica.propose(Proposal(command, answers.append, change))
        self.replica.turn()
        return answers

    def append(self, previous: tuple[int, int], *terms: int, term: int = 1, commit: int = 0) -> Any:
        """A leader's message; gives the answer."""
        entries = [
            (apply_command(b"%d" % (previous[0] + n)), previous[0] + n, each)
            for n, each in enumerate(terms, 1)
        ]
        message = {"type": "append_entries", "term": term, "commit_index": commit}
        message |= {"entries": entries, "prevLogIdx": previous[0], "prevLogTerm": previous[1]}
        self.net.sent.clear()
        self.replica.receive(IDS[1], message)
        return (self.net.take("next_node_idx") or [None])[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.storage.close()


@pytest.fixture
def leader(bench: Bench) -> Bench:
    bench.elect()
    return bench


def test_a_proposal_is_answered_when_a_majority_has_it(leader: Bench) -> None:
    answers = leader.propose(apply_command(b"x"))
    assert answers == []
    leader.acknowledge(IDS[1])
    assert answers == [b"did x"]


def test_proposals_of_one_turn_go_out_in_one_message(leader: Bench) -> None:
    leader.net.sent.clear()
    for number in range(5):
        leader.replica.propose(Proposal(apply_command(b"%d" % number), lambda _: None))
    leader.replica.turn()
    sent = leader.net.take("append_entries")
    assert [len(message["entries"]) for message in sent] == [5, 5]


def test_what_is_committed_is_told_with_the_next_entries(leader: Bench) -> None:
    leader.propose(apply_command(b"x"))
    leader.net.sent.clear()
    leader.acknowledge(IDS[1])
    assert leader.machine.done == [b"x"]
    assert leader.net.take("append_entries") == []
    leader.propose(apply_command(b"y"))
    sent = leader.net.take("append_entries")
    assert [(message["commit_index"], len(message["entries"])) for message in sent] == [(4, 1)] * 2


def test_what_is_committed_is_told_soon_when_nothing_follows(
    leader: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = syncobj.monotonicTime()
    monkeypatch.setattr(syncobj, "monotonicTime", lambda: clock)
    leader.propose(apply_command(b"x"))
    assert leader.replica.patience(1000.0) == pytest.approx(PATIENT.heartbeat)
    leader.acknowledge(IDS[1])
    leader.net.sent.clear()
    # So the engine does not wait for the next heartbeat.
    assert leader.replica.patience(1000.0) == pytest.approx(PATIENT.notice)
    clock += PATIENT.notice + 0.001
    leader.replica.turn()
    sent = leader.net.take("append_entries")
    assert [(message["commit_index"], len(message["entries"])) for message in sent] == [(4, 0)] * 2
    assert leader.replica.patience(1000.0) == pytest.approx(PATIENT.heartbeat)


def test_an_operation_that_raises_is_passed_over(leader: Bench) -> None:  # D8
    answers = [leader.propose(apply_command(each)) for each in (b"poison", b"after")]
    leader.acknowledge()
    assert isinstance(answers[0][0], ApplyFailed)
    assert answers[1] == [b"did after"]
    assert leader.machine.done == [b"after"]


def test_what_is_not_the_operations_fault_halts_the_voter(leader: Bench) -> None:
    leader.propose(apply_command(b"memory"))
    with pytest.raises(MemoryError):
        leader.acknowledge()


def test_a_callback_that_raises_has_nothing_applied_twice(leader: Bench) -> None:  # D9
    def callback(answer: Answer) -> None:
        raise KeyError

    leader.replica.propose(Proposal(apply_command(b"once"), callback))
    leader.replica.turn()
    for _ in range(3):
        leader.acknowledge()
    assert leader.machine.done == [b"once"]


def test_changes_of_the_voters_do_not_overlap(leader: Bench) -> None:  # G
    first, second = (Change("add", voter) for voter in VOTERS[3:5])
    assert leader.propose(change_command(first), first) == []
    (refused,) = leader.propose(change_command(second), second)
    assert isinstance(refused, MembershipRefused)
    assert leader.replica.view(0).voters == VOTERS[:4]
    leader.acknowledge(*IDS[1:3])
    assert leader.propose(change_command(second), second) == []


def test_a_leader_changes_nothing_before_it_has_committed_in_its_term(bench: Bench) -> None:
    bench.acknowledge = lambda *voters: None  # type: ignore[method-assign]
    bench.elect()
    change = Change("add", VOTERS[3])
    (refused,) = bench.propose(change_command(change), change)
    assert isinstance(refused, MembershipRefused)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Change("remove", VOTERS[0]), "does not remove itself"),
        (Change("remove", VOTERS[4]), "is not a voter"),
        (Change("add", VOTERS[1]), "voter already"),
        (Change("add", Voter(IDS[4], VOTERS[1].address)), "has the address"),
    ],
)
def test_changes_that_make_no_sense_are_refused(leader: Bench, change: Change, why: str) -> None:
    (refused,) = leader.propose(change_command(change), change)
    assert isinstance(refused, MembershipRefused)
    assert why in str(refused)


def test_a_change_that_is_not_committed_counts_after_a_restart(
    leader: Bench, tmp_path: Path
) -> None:
    change = Change("add", VOTERS[3])
    leader.propose(change_command(change), change)
    leader.storage.journal.sync()
    leader.storage.close()
    again = Bench(tmp_path)
    assert again.replica.view(0).voters == VOTERS[:4]
    assert again.replica.view(0).change_pending
    again.storage.close()


def test_a_change_that_is_overwritten_counts_no_more(bench: Bench) -> None:
    entry = (change_command(Change("add", VOTERS[3])), 3, 1)
    message = {"type": "append_entries", "term": 1, "commit_index": 0, "prevLogIdx": 2}
    bench.replica.receive(IDS[1], message | {"prevLogTerm": 0, "entries": [entry]})
    assert len(bench.replica.view(0).voters) == 4
    bench.append((2, 0), 2, term=2)
    assert bench.replica.view(0).voters == VOTERS[:3]


def test_a_snapshot_holds_the_committed_voters_only(leader: Bench) -> None:
    leader.propose(apply_command(b"x"))
    leader.acknowledge()
    change = Change("add", VOTERS[3])
    leader.propose(change_command(change), change)
    leader.replica.forceLogCompaction()
    leader.replica.turn()
    leader.replica.turn()
    leader.storage.journal.sync()
    leader.storage.close()
    assert leader.storage.paths.snapshot.read_bytes().count(IDS[3].encode()) == 0
    again = Bench(leader.storage.paths.directory)
    assert again.replica.view(0).voters == VOTERS[:4]
    again.storage.close()


def test_a_heartbeat_drops_nothing(bench: Bench) -> None:  # D10
    bench.append((2, 0), 1, 1, 1, commit=5)
    bench.replica.turn()
    answer = bench.append((2, 0), 1)
    assert bench.log[2:] == [(3, 1), (4, 1), (5, 1)]
    assert answer["next_node_idx"] == 4


def test_an_older_leaders_tail_is_not_acknowledged_nor_committed(bench: Bench) -> None:
    bench.append((2, 0), 1, 1, 1)
    answer = bench.append((3, 1), term=2, commit=9)
    assert (answer["next_node_idx"], answer["term"]) == (4, 2)
    assert bench.replica.view(0).commit_index == 3


def test_an_acknowledgement_of_an_earlier_term_is_not_counted(leader: Bench) -> None:
    answers = leader.propose(apply_command(b"x"))
    stale = {"type": "next_node_idx", "term": 0, "next_node_idx": 99, "reset": False}
    for voter in IDS[1:3]:
        leader.replica.receive(voter, stale | {"success": True})
    leader.replica.turn()
    assert answers == []


def test_only_voters_acknowledge_and_vote(leader: Bench, bench: Bench) -> None:
    answers = leader.propose(apply_command(b"x"))
    leader.acknowledge(*IDS[3:5])
    assert answers == []


def test_a_vote_counts_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 5)
    bench.replica._raft.election_deadline = 0
    bench.replica.turn()
    for each in IDS[1:3]:
        bench.replica.receive(each, {"type": "pre_vote_reply", "term": 1, "granted": True})
    bench.replica.turn()
    for _ in range(3):
        bench.replica.receive(IDS[1], {"type": "response_vote", "term": 1})
    assert bench.replica.view(0).role is Role.CANDIDATE
    bench.replica.receive(IDS[2], {"type": "response_vote", "term": 1})
    assert bench.replica.view(0).role is Role.LEADER
    bench.storage.close()


VOTE = {"type": "request_vote", "term": 5, "last_log_index": 9, "last_log_term": 4}


def test_who_has_a_leader_does_not_help_to_depose_it(bench: Bench) -> None:
    bench.append((2, 0))
    bench.replica.receive(IDS[2], VOTE | {"transfer": False})
    assert bench.replica.view(0).term == 1
    bench.replica.receive(IDS[2], {**VOTE, "type": "pre_vote"})
    assert bench.net.take("pre_vote_reply") == [
        {"type": "pre_vote_reply", "term": 1, "granted": False}
    ]
    bench.now += PATIENT.election_min
    bench.replica.receive(IDS[2], VOTE | {"transfer": False})
    assert bench.net.take("response_vote") == [{"type": "response_vote", "term": 5}]


def test_a_leader_may_ask_for_its_own_replacement(bench: Bench) -> None:
    bench.append((2, 0))
    bench.replica.receive(IDS[2], VOTE | {"transfer": True})
    assert bench.net.take("response_vote") == [{"type": "response_vote", "term": 5}]


def test_a_voter_that_is_alone_does_not_raise_its_term(bench: Bench) -> None:
    for _ in range(5):
        bench.replica._raft.election_deadline = 0
        bench.replica.turn()
    assert bench.replica.view(0).term == 0


def test_a_leader_learns_of_a_newer_term_from_who_cannot_follow_it(bench: Bench) -> None:
    bench.append((2, 0), term=7)
    bench.append((2, 0), term=3)
    bench.replica.receive(IDS[1], {**VOTE, "type": "pre_vote"})
    message = {"type": "append_entries", "term": 3, "commit_index": 0, "entries": []}
    bench.replica.receive(IDS[1], message | {"prevLogIdx": 2, "prevLogTerm": 0})
    assert {"type": "newer_term", "term": 7} in bench.net.take("newer_term")


def test_a_leader_steps_down_for_a_newer_term(leader: Bench) -> None:
    leader.replica.receive(IDS[3], {"type": "newer_term", "term": 9})
    assert leader.replica.view(0).role is Role.LEADER
    leader.replica.receive(IDS[1], {"type": "newer_term", "term": 9})
    assert (leader.replica.view(0).role, leader.replica.view(0).term) == (Role.FOLLOWER, 9)


def test_a_vote_is_durable_before_it_is_told(bench: Bench) -> None:
    bench.replica.receive(IDS[2], VOTE | {"transfer": False})
    assert bench.net.take("response_vote")
    # What sends it calls sync first; see the transport.
    bench.storage.journal.sync()
    bench.storage.close()
    again = Bench(bench.storage.paths.directory)
    assert (again.replica.view(0).term, again.storage.journal.getVotedForNodeId()) == (5, IDS[2])
    again.replica.receive(IDS[1], VOTE | {"transfer": False})
    assert again.net.take("response_vote") == []
    again.storage.close()


def test_a_proposal_whose_place_another_entry_took_was_not_done(leader: Bench) -> None:
    answers = leader.propose(apply_command(b"x"))
    term = leader.replica.view(0).term
    leader.append((3, term), term + 1, term=term + 1, commit=4)
    leader.replica.turn()
    assert isinstance(answers[0], Unavailable)


def test_a_proposal_of_which_nobody_will_hear_is_unknown(leader: Bench) -> None:
    answers = leader.propose(apply_command(b"x"))
    leader.replica.abandon("the end")
    assert isinstance(answers[0], Unknown)


def test_a_follower_names_the_leader(bench: Bench) -> None:
    bench.append((2, 0))
    (answer,) = bench.propose(NO_OP_COMMAND)
    assert isinstance(answer, NotLeader)
    assert answer.hint == VOTERS[1]


def test_a_follower_that_hears_nothing_names_no_leader(bench: Bench) -> None:
    bench.append((2, 0))
    bench.now += PATIENT.election_min - 1
    assert bench.replica.view(0).leader == VOTERS[1]
    bench.now += 1
    assert bench.replica.view(0).leader is None
    (answer,) = bench.propose(NO_OP_COMMAND)
    assert isinstance(answer, NotLeader)
    assert answer.hint is None


def test_who_waits_to_join_neither_campaigns_nor_leads(tmp_path: Path) -> None:
    create(tmp_path, Identity(CLUSTER, UUID(IDS[0])), None, b"")
    bench = Bench(tmp_path)
    for _ in range(5):
        bench.replica.turn()
    view = bench.replica.view(0)
    assert (view.role, view.term, view.voters) == (Role.JOINING, 0, ())
    bench.storage.close()


def test_nothing_is_unpickled(leader: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> Callable[..., object]:
        pytest.fail("a pickle was read")

    for name in ("load", "loads", "dump", "dumps"):
        monkeypatch.setattr(f"pysyncobj.pickle.{name}", forbidden)
    change = Change("add", VOTERS[3])
    for command in (apply_command(b"x"), NO_OP_COMMAND):
        leader.propose(command)
    leader.propose(change_command(change), change)
    leader.acknowledge()
    leader.replica.forceLogCompaction()
    leader.replica.turn()
    leader.replica.turn()
    assert leader.replica.view(0).snapshot_index > 2
