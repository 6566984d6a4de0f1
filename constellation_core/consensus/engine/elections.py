"""When an election may begin, and whose vote counts: what PySyncObj leaves out.

*Pre-vote* (Ongaro's dissertation, section 9.6): a voter asks whether it would be elected before
it raises its term, so one that was cut off does not come back with a term that deposes a
healthy leader. *Stickiness* (section 4.2.3): who has heard from a leader lately does not help
to elect another, unless that leader asked for it. With stickiness a voter can still be left
with a newer term than the leader's, whose messages it would ignore for ever: it answers them
with ``newer_term``, and the leader steps down.

Safety is kept by Raft's own rules, with one exception: PySyncObj counts votes by message, not
by voter, so :meth:`Elections.on_response_vote` lets each voter's through once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from constellation_core.consensus.engine.configuration import Configuration
from constellation_core.consensus.engine.journal import Journal
from constellation_core.consensus.engine.library import Internals, VoterNode, monotonic
from constellation_core.consensus.engine.messages import Message


class Elections:
    """Stands between the network and the library for all that concerns elections.

    Args:
        me: this voter's id.
        raft: the library.
        journal: the log, and how new it is.
        configuration: who the voters are.
        send: sends a message to a voter.
        clock: seconds; it goes on while the machine sleeps.
        patience: seconds for which a leader that was heard counts as alive.
    """

    def __init__(
        self,
        me: str,
        raft: Internals,
        journal: Journal,
        configuration: Configuration,
        send: Callable[[str, Message], bool],
        clock: Callable[[], float],
        patience: float,
    ) -> None:
        self._me = me
        self._raft = raft
        self._journal = journal
        self._configuration = configuration
        self._send = send
        self._clock = clock
        self._patience = patience
        self._heard = -math.inf
        self._transfer_term = -1
        self._asked_term = 0
        self._granted: set[str] = set()
        self._votes: tuple[int, set[str]] = (0, set())

    def gate(self) -> None:
        """Before each turn: the library may begin an election only after a won pre-vote."""
        if self._raft.leads:
            self._granted.clear()
            return
        if not self._configuration.includes_me():
            self._raft.election_deadline = math.inf
            return
        if self._raft.election_deadline == math.inf:
            self._raft.postpone_election()
        term = self._raft.term + 1
        if self._raft.election_deadline >= monotonic() or self._transfer_term == term:
            return
        if not self._won(term):
            self._ask(term)
        if self._won(term):
            self._granted.clear()
            self._raft.election_deadline = 0

    def heard_leader(self) -> None:
        """A leader of this term, or of a newer one, has sent something."""
        self._heard = self._clock()
        self._granted.clear()

    def leader_alive(self) -> bool:
        """Whether this voter leads, or has heard from a leader lately."""
        return self._raft.leads or self._clock() - self._heard < self._patience

    def outgoing_vote_request(self, message: Message) -> Message:
        """Say whether the election was the old leader's wish."""
        return {**message, "transfer": message["term"] == self._transfer_term}

    def on_request_vote(self, node: VoterNode, message: Message) -> None:
        """Another voter campaigns."""
        if message.pop("transfer") or not self.leader_alive():
            self._raft.deliver(node, message)

    def on_response_vote(self, node: VoterNode, message: Message) -> None:
        """A voter gave its vote."""
        term, voters = self._votes
        if term != message["term"]:
            voters = set()
        self._votes = (message["term"], voters)
        if node.voter in self._raft.others and node.voter not in voters:
            voters.add(node.voter)
            self._raft.deliver(node, message)

    def on_timeout_now(self, node: VoterNode, message: Message) -> None:
        """The leader asks this voter to be elected."""
        if self._raft.leader == node.voter and self._configuration.includes_me():
            self._transfer_term = message["term"] + 1
            self._raft.deliver(node, message)

    def on_pre_vote(self, node: VoterNode, message: Message) -> None:
        """Another voter asks whether it would get this vote."""
        mine = (self._journal[-1][2], self._journal[-1][1])
        theirs = (message["last_log_term"], message["last_log_index"])
        term = self._raft.term
        granted = not self.leader_alive() and message["term"] > term and theirs >= mine
        self._send(
            node.voter,
            {
                "type": "pre_vote_reply",
                "term": message["term"] if granted else term,
                "granted": granted,
            },
        )

    def on_pre_vote_reply(self, node: VoterNode, message: Message) -> None:
        """A voter says whether this one would get its vote."""
        if not self._granted or node.voter not in self._raft.others:
            return
        if not message["granted"]:
            self._adopt(message["term"])
        elif message["term"] == self._asked_term:
            self._granted.add(node.voter)
            if self._won(self._raft.term + 1):
                self._raft.election_deadline = 0

    def on_newer_term(self, node: VoterNode, message: Message) -> None:
        """A voter cannot follow, because it knows of a newer term."""
        if node.voter in self._raft.others:
            self._adopt(message["term"])

    def _ask(self, term: int) -> None:
        self._raft.postpone_election()
        self._asked_term = term
        self._granted = {self._me}
        question = {
            "type": "pre_vote",
            "term": term,
            "last_log_index": self._journal[-1][1],
            "last_log_term": self._journal[-1][2],
        }
        for voter in self._raft.others:
            self._send(voter, question)

    def _won(self, term: int) -> bool:
        voters = len(self._configuration.voters())
        return term == self._asked_term and len(self._granted) * 2 > voters

    def _adopt(self, term: int) -> None:
        if term > self._raft.term:
            self._raft.step_down(term)
            self._granted.clear()
            self._heard = -math.inf
