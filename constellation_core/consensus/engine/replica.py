"""PySyncObj's Raft with the holes closed: docs/consensus.md names each of them.

Everything here runs on one thread. The library decides elections and replication; what it asks
of disk, network and state machine comes here, and what the network brings passes the filters
before the library sees it. An exception that leaves this module means that the voter can no
longer keep its promises: the engine then halts it.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping

from pysyncobj.syncobj import SyncObj

from constellation_core.consensus.engine.commands import APPLY, Entry
from constellation_core.consensus.engine.configuration import Configuration
from constellation_core.consensus.engine.elections import Elections
from constellation_core.consensus.engine.library import (
    CANDIDATE,
    LEADER,
    SUCCESS,
    Internals,
    VoterNode,
    monotonic,
)
from constellation_core.consensus.engine.matching import match
from constellation_core.consensus.engine.messages import Message, fitting
from constellation_core.consensus.engine.proposals import Failed, Proposal, give_up
from constellation_core.consensus.engine.relay import Network, Relay
from constellation_core.consensus.engine.snapshots import Snapshot, SnapshotStore
from constellation_core.consensus.engine.storage import Storage, align
from constellation_core.consensus.engine.timing import Timing, configure
from constellation_core.consensus.files import FaultPoint, no_faults
from constellation_core.consensus.interface import (
    ConsensusError,
    EngineStatus,
    MembershipRefused,
    NotLeader,
    Role,
    StateMachine,
    Unavailable,
    Voter,
)

_log = logging.getLogger(__name__)

_MAX_UNCOMMITTED = 8_192
_MAX_PER_TURN = 1_024
_LEAST_WAIT = 0.01


class Replica(SyncObj):  # type: ignore[misc]
    """One voter's Raft.

    Args:
        storage: its opened directory; the state machine has the snapshot's state already.
        machine: the state machine.
        network: carries messages; see :meth:`receive`, :meth:`connected`, :meth:`disconnected`.
        timing: timeouts.
        clock: seconds, going on while the machine sleeps.
        faults: fault points, for tests.
    """

    def __init__(
        self,
        storage: Storage,
        machine: StateMachine,
        network: Network,
        timing: Timing,
        clock: Callable[[], float],
        faults: FaultPoint = no_faults,
    ) -> None:
        # The library calls getattr on every name while it is made: no properties in this class.
        self._me = storage.identity.id
        self._cluster = storage.identity.cluster
        self._journal = storage.journal
        self._machine = machine
        self._network = network
        self._timing = timing
        self._proposals: deque[Proposal] = deque()
        self._next_index: int | None = None
        self._aligned: tuple[Voter, ...] | None = None
        self._configuration = Configuration(self._me, storage.journal, storage.snapshot)
        self._relay = Relay(network, self._outgoing)
        super().__init__(VoterNode(self._me), (), conf=configure(timing), transport=self._relay)
        self._raft = Internals(self)
        self._snapshots = SnapshotStore(
            storage.paths.snapshot,
            self._cluster,
            take=self._take_snapshot,
            wanted=lambda snapshot: snapshot.index > self._raft.applied,
            backlog=network.backlog,
            patient=lambda: self._journal.size <= timing.compact_bytes,
            clock=clock,
            faults=faults,
        )
        self._elections = Elections(
            self._me,
            self._raft,
            self._journal,
            self._configuration,
            network.send,
            clock,
            timing.election_min,
        )
        self._filters: Mapping[str, Callable[[VoterNode, Message], None]] = {
            "append_entries": self._on_append_entries,
            "next_node_idx": self._on_next_node_idx,
            "request_vote": self._elections.on_request_vote,
            "response_vote": self._elections.on_response_vote,
            "timeout_now": self._elections.on_timeout_now,
            "pre_vote": self._elections.on_pre_vote,
            "pre_vote_reply": self._elections.on_pre_vote_reply,
            "newer_term": self._elections.on_newer_term,
        }
        self._raft.use(self._journal, self._snapshots)
        self._raft.applied = self._configuration.since
        self._set_commit(max(self._raft.applied, self._journal.getRaftCommitIndex()))
        self._align_voters()

    # What the engine calls.

    def propose(self, proposal: Proposal) -> None:
        """Take a proposal; it is answered in one of the next turns, or when it is applied."""
        self._proposals.append(proposal)

    def turn(self) -> None:
        """One turn of the library's loop."""
        self._elections.gate()
        if self._journal.size > self._timing.compact_bytes:
            self.forceLogCompaction()
        self.doTick(0.0)

    def patience(self, longest: float) -> float:
        """Seconds after which there is a turn to be made though nothing arrives."""
        leads = self._raft.leads
        unapplied = self._raft.commit > self._raft.applied
        alone = leads and not self._raft.others and self._last() > self._raft.commit
        if self._proposals or unapplied or alone:
            return 0.0
        if leads:
            return max(0.0, min(longest, self._raft.sending_due - monotonic()))
        # An election that is due may have to wait for a connection.
        return min(longest, max(_LEAST_WAIT, self._raft.election_deadline - monotonic()))

    def receive(self, sender: str, message: Message) -> None:
        """Take a decoded message from an authenticated voter."""
        self._filters[message["type"]](VoterNode(sender), message)

    def connected(self, voter: str) -> None:
        """A voter can be reached."""
        self._relay.connected(voter)

    def disconnected(self, voter: str) -> None:
        """A voter cannot be reached any more."""
        self._relay.disconnected(voter)

    def ask_transfer(self, voter_id: str | None) -> None:
        """Ask a voter to be elected at once.

        Raises:
            NotLeader: this voter does not lead.
            MembershipRefused: no other voter, or not this one, has the whole log.
        """
        if not self._raft.leads:
            raise NotLeader(self._leader())
        outcome: list[int] = []
        node = None if voter_id is None else VoterNode(voter_id)
        self.transferLeadership(node, lambda _, reason: outcome.append(reason))
        if outcome != [SUCCESS]:
            raise MembershipRefused("no other voter, or not this one, has the whole log")

    def abandon(self, reason: str) -> None:
        """Answer all that waits: the engine stops."""
        for proposal in self._proposals:
            proposal.settle(Unavailable(reason))
        self._proposals.clear()
        give_up(self._raft.take_waiting(math.inf), reason)

    def applied(self) -> int:
        """Index up to which the state machine has carried out the log."""
        return self._raft.applied

    def standing(self) -> Hashable:
        """Differs whenever something changed that others have to know at once."""
        raft, voters = self._raft, self._configuration.voters()
        pending = self._configuration.pending(raft.commit)
        return raft.term, raft.state, raft.leader, voters, pending

    def view(self, refused: int) -> EngineStatus:
        """How things stand."""
        return EngineStatus(
            role=self._role(),
            me=self._me,
            leader=self._leader(),
            term=self._raft.term,
            commit_index=self._raft.commit,
            applied_index=self._raft.applied,
            last_index=self._last(),
            voters=self._configuration.voters(),
            change_pending=self._configuration.pending(self._raft.commit),
            match=tuple(sorted(self._raft.matched.items())) if self._raft.leads else (),
            heard=tuple(sorted(self._raft.heard.items())) if self._raft.leads else (),
            log_entries=len(self._journal),
            log_bytes=self._journal.size,
            snapshot_index=self._configuration.since,
            refused=refused,
        )

    # What the library calls, in place of its own.

    def _checkCommandsToApply(self) -> None:
        """Put what was proposed into the log, and send all of it in one message."""
        added = False
        for _ in range(min(len(self._proposals), _MAX_PER_TURN)):
            proposal = self._proposals.popleft()
            refusal = self._refusal(proposal)
            if refusal is not None:
                proposal.settle(refusal)
                continue
            index = self._last() + 1
            self._journal.add(proposal.command, index, self._raft.term)
            self._raft.await_commit(index, proposal.applied)
            if proposal.change is not None:
                self._align_voters()
            added = True
        if added:
            self._raft.send_entries()

    def _SyncObj__applyLogEntries(self) -> bool:
        """Apply what is committed; never true, which has the library tell the others at once."""
        if self._raft.commit <= self._raft.applied:
            return False
        # A single voter sends nothing, so nothing else makes its log durable before this.
        self._journal.sync()
        super()._SyncObj__applyLogEntries()
        self._raft.send_entries_within(self._timing.notice)
        return False

    def _SyncObj__doApplyCommand(self, command: bytes) -> bytes | int | Failed:
        """Carry out one entry. Nothing is unpickled; nothing is raised."""
        index = self._raft.applied + 1
        if command[0] != APPLY:
            return index
        try:
            return self._machine.apply(index, command[1:])
        except MemoryError:
            # Not the operation's doing: another voter may have carried it out.
            raise
        except Exception as error:  # noqa: BLE001 - it fails alike on every voter
            _log.exception("the state machine failed at entry %d", index)
            return Failed(f"{type(error).__name__} at entry {index}")

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: ARG002
        """Become what the snapshot is that was received and stands on disk."""
        snapshot = self._snapshots.received
        if snapshot is None:
            raise RuntimeError("there is no received snapshot")
        align(self._journal, snapshot)
        self._machine.restore(snapshot.state)
        self._configuration.rebase(snapshot.index, snapshot.voters)
        self._raft.applied = snapshot.index
        self._set_commit(max(snapshot.index, self._raft.commit))
        # The log may go on behind it, with entries that this leader does not know of.
        self._next_index = snapshot.index + 1
        give_up(self._raft.take_waiting(snapshot.index), "a snapshot took the entry's place")

    # What passes between the library and the network.

    def _on_append_entries(self, node: VoterNode, message: Message) -> None:
        if message["term"] < self._raft.term:
            self._network.send(node.voter, {"type": "newer_term", "term": self._raft.term})
            return
        self._elections.heard_leader()
        self._next_index = None
        if "entries" in message:
            handover = match(
                self._journal,
                message["prevLogIdx"],
                message["prevLogTerm"],
                message["entries"],
                message["commit_index"],
                self._raft.commit,
            )
            message["prevLogIdx"] = handover.previous
            message["prevLogTerm"] = handover.previous_term
            message["entries"] = handover.entries
            message["commit_index"] = handover.commit
            self._next_index = handover.next_index
        else:
            # It is told again with entries, from which follows how far the logs agree.
            message["commit_index"] = 0
        self._raft.deliver(node, message)
        self._align_voters()

    def _on_next_node_idx(self, node: VoterNode, message: Message) -> None:
        # The library's answers do not say whom they answer: one to an earlier term of this
        # leader may speak of entries that another leader has overwritten since.
        if message["term"] != self._raft.term or node.voter not in self._raft.others:
            return
        # A follower with a longer log may ask for what comes after it, where there is nothing.
        message["next_node_idx"] = min(message["next_node_idx"], self._last() + 1)
        self._raft.deliver(node, message)
        if message["reset"]:
            self._raft.send_entries_within(0.0)

    def _outgoing(self, message: Message) -> Message:
        if message["type"] == "request_vote":
            return self._elections.outgoing_vote_request(message)
        if message["type"] == "next_node_idx":
            answer = {**message, "term": self._raft.term}
            if self._next_index is not None:
                answer["next_node_idx"] = self._next_index
            return answer
        if "entries" in message:
            # The library counts the bytes of commands only, and there may be very small ones.
            return {**message, "entries": fitting(message["entries"])}
        return message

    # The rest.

    def _take_snapshot(self, previous: Entry, last: Entry) -> Snapshot:
        voters = self._configuration.voters_at(last[1])
        self._configuration.rebase(last[1], voters)
        return Snapshot(self._cluster, previous, last, voters, self._machine.snapshot())

    def _align_voters(self) -> None:
        """Make the library's other nodes those of the latest configuration in the log."""
        voters = self._configuration.voters()
        if voters is self._aligned:
            return
        self._aligned = voters
        wanted = {each.id: each.address for each in voters}
        wanted.pop(self._me, None)
        if wanted != {voter: node.address for voter, node in self._raft.others.items()}:
            self._raft.set_others(VoterNode(voter, where) for voter, where in wanted.items())

    def _refusal(self, proposal: Proposal) -> ConsensusError | None:
        if not self._raft.leads:
            return NotLeader(self._leader())
        if self._last() - self._raft.commit > _MAX_UNCOMMITTED:
            return Unavailable("too much waits to be committed")
        if proposal.change is None:
            return None
        try:
            self._configuration.check(
                proposal.change,
                committed=self._raft.commit,
                own_term_applied=self._raft.applied >= self._raft.own_term_since,
            )
        except MembershipRefused as refused:
            return refused
        return None

    def _set_commit(self, index: int) -> None:
        self._raft.commit = index
        self._journal.setRaftCommitIndex(index)

    def _last(self) -> int:
        return int(self._journal[-1][1])

    def _leader(self) -> Voter | None:
        # One that is cut off holds no election, so the library remembers its last leader for ever.
        leader = self._raft.leader if self._elections.leader_alive() else None
        return next((each for each in self._configuration.voters() if each.id == leader), None)

    def _role(self) -> Role:
        if self._configuration.since == 0:
            return Role.JOINING
        if not self._configuration.includes_me():
            return Role.REMOVED
        roles = {LEADER: Role.LEADER, CANDIDATE: Role.CANDIDATE}
        return roles.get(self._raft.state, Role.FOLLOWER)
