"""PySyncObj, as far as this engine knows it: the exact version, and the private names in use.

The library offers no hook for most of what :mod:`.replica` does, so that relies on attributes
and methods that the library keeps to itself (``__name`` in ``SyncObj`` is ``_SyncObj__name``
outside). Another version may have others, or other habits: the import fails for any but the
one that was read line by line, and construction fails when a name is missing. But for the four
methods that :class:`~.replica.Replica` overrides, the names stand here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pysyncobj import syncobj
from pysyncobj.node import Node
from pysyncobj.syncobj import SyncObj
from pysyncobj.version import VERSION

from constellation_core.consensus.engine.messages import Message

PINNED = "0.3.17"

if VERSION != PINNED:
    raise ImportError(f"the consensus engine is made for PySyncObj {PINNED}, not {VERSION}")

_OVERRIDDEN = (
    "_SyncObj__applyLogEntries",
    "_SyncObj__doApplyCommand",
    "_SyncObj__loadDumpFile",
    "_checkCommandsToApply",
)
_USED = (
    "commandsWaitingCommit",
    "generateRaftTimeout",
    "lastResponseTime",
    "newAppendEntriesTime",
    "noopIDx",
    "onMessageReceived",
    "otherNodes",
    "raftCommitIndex",
    "raftCurrentTerm",
    "raftElectionDeadline",
    "raftLastApplied",
    "raftLeader",
    "raftLog",
    "raftMatchIndex",
    "raftState",
    "sendAppendEntries",
    "serializer",
    "setCurrentTerm",
    "setState",
    "updateClusterConfiguration",
    "votedForNodeId",
)

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
"""PySyncObj's _RAFT_STATE."""

SUCCESS = 0
"""PySyncObj's FAIL_REASON.SUCCESS."""


def monotonic() -> float:
    """The clock that the library measures its timeouts with."""
    return float(syncobj.monotonicTime())


class VoterNode(Node):  # type: ignore[misc]
    """A voter as the library knows it: equal and hashed by id."""

    def __init__(self, voter_id: str, address: str = "") -> None:
        super().__init__(voter_id)
        self.voter = voter_id
        """The id, typed."""
        self.address = address
        # Not the text's, which differs from run to run: simulations are to be repeatable.
        self._hash = int(voter_id[-12:], 16)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VoterNode) and self.voter == other.voter


class _NothingToPoll:
    """In place of the library's poller, which knows no sockets here."""

    def poll(self, timeout: float) -> None:
        """Return at once."""


class Internals:
    """The library's private state and methods, with names and types.

    Raises:
        ImportError: a name that is used here, or overridden elsewhere, does not exist.
    """

    def __init__(self, node: Any) -> None:
        missing = [name for name in _OVERRIDDEN if not hasattr(SyncObj, name)]
        missing += [name for name in _USED if not hasattr(node, f"_SyncObj__{name}")]
        if missing:
            raise ImportError(f"PySyncObj lacks {', '.join(missing)}")
        self._node = node

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._node._SyncObj__raftCurrentTerm)

    @property
    def applied(self) -> int:
        """Index of the last entry that was applied."""
        return int(self._node._SyncObj__raftLastApplied)

    @applied.setter
    def applied(self, index: int) -> None:
        self._node._SyncObj__raftLastApplied = index

    @property
    def commit(self) -> int:
        """Index of the last entry that is known to be committed."""
        return int(self._node._SyncObj__raftCommitIndex)

    @commit.setter
    def commit(self, index: int) -> None:
        self._node._SyncObj__raftCommitIndex = index

    @property
    def state(self) -> int:
        """FOLLOWER, CANDIDATE or LEADER."""
        return int(self._node._SyncObj__raftState)

    @property
    def leads(self) -> bool:
        """Whether this voter believes that it leads."""
        return self.state == LEADER

    @property
    def leader(self) -> str | None:
        """The id of who is believed to lead."""
        leader = self._node._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @property
    def own_term_since(self) -> int:
        """On a leader, the index of its term's first entry."""
        return int(self._node._SyncObj__noopIDx)

    @property
    def others(self) -> dict[str, VoterNode]:
        """The other voters, by id."""
        return {node.voter: node for node in self._node._SyncObj__otherNodes}

    def set_others(self, nodes: Iterable[VoterNode]) -> None:
        """Change the other voters; on a leader, new ones have their time to answer."""
        self._node._SyncObj__updateClusterConfiguration(list(nodes))
        current = set(self._node._SyncObj__otherNodes)
        heard = self._node._SyncObj__lastResponseTime
        for node in current:
            heard.setdefault(node, monotonic())
        for node in set(heard) - current:
            del heard[node]

    @property
    def matched(self) -> dict[str, int]:
        """On a leader, up to where each other voter's log is known to agree."""
        match = self._node._SyncObj__raftMatchIndex
        return {voter: match[node] for voter, node in self.others.items()}

    @property
    def heard(self) -> dict[str, float]:
        """On a leader, how many seconds ago each other voter last answered."""
        heard = self._node._SyncObj__lastResponseTime
        return {voter: max(0.0, monotonic() - heard[node]) for voter, node in self.others.items()}

    @property
    def election_deadline(self) -> float:
        """When the library begins an election, by its clock."""
        return float(self._node._SyncObj__raftElectionDeadline)

    @election_deadline.setter
    def election_deadline(self, deadline: float) -> None:
        self._node._SyncObj__raftElectionDeadline = deadline

    def postpone_election(self) -> None:
        """Set the deadline a random timeout from now."""
        self.election_deadline = monotonic() + self._node._SyncObj__generateRaftTimeout()

    def step_down(self, term: int) -> None:
        """Follow nobody yet, in this term."""
        self._node._SyncObj__setCurrentTerm(term, None)
        self._node._SyncObj__setState(FOLLOWER)
        self._node._SyncObj__raftLeader = None

    def deliver(self, node: VoterNode, message: Message) -> None:
        """Let the library handle a message."""
        self._node._SyncObj__onMessageReceived(node, message)

    def send_entries(self) -> None:
        """Send what the others lack."""
        self._node._SyncObj__sendAppendEntries()

    @property
    def sending_due(self) -> float:
        """When a leader sends something at the latest, by the library's clock."""
        return float(self._node._SyncObj__newAppendEntriesTime)

    def send_entries_within(self, seconds: float) -> None:
        """Send what the others lack, and what is committed, after so long at the latest."""
        due = min(self.sending_due, monotonic() + seconds)
        self._node._SyncObj__newAppendEntriesTime = due

    def await_commit(self, index: int, callback: Callable[[Any, int], None]) -> None:
        """Have the callback called when the entry of this term at ``index`` was applied."""
        self._node._SyncObj__commandsWaitingCommit[index].append((self.term, callback))

    def take_waiting(self, until: float) -> list[Callable[[Any, int], None]]:
        """The callbacks that wait for entries up to this index; they are not called any more."""
        waiting = self._node._SyncObj__commandsWaitingCommit
        indexes = sorted(index for index in waiting if index <= until)
        return [callback for index in indexes for _, callback in waiting.pop(index)]

    def use(self, journal: Any, snapshots: Any) -> None:
        """Put journal and snapshots in the place of the library's own, and nothing to wait on."""
        self._node._poller = _NothingToPoll()
        self._node._SyncObj__raftLog = journal
        self._node._SyncObj__serializer = snapshots
        self._node._SyncObj__raftCurrentTerm = journal.getCurrentTerm()
        self._node._SyncObj__votedForNodeId = journal.getVotedForNodeId()
