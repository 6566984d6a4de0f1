"""Anti-entropy: finds what broadcasts missed, and pulls it over TCP.

Two nodes compare fingerprints of their digests; only if these differ a digest travels, and then
only the rows that one side lacks, in both directions and in pieces. What nobody else can vouch
for is pulled from its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from random import Random

from constellation_core.catalog.messages import (
    CatalogMessageError,
    Compare,
    Decoder,
    DigestReply,
    Heard,
    PullRequest,
    Updates,
    chunk,
    encode,
)
from constellation_core.catalog.own import OwnRows
from constellation_core.catalog.owners import Known, Update
from constellation_core.catalog.replica import Replica
from constellation_core.catalog.standing import epoch_of
from constellation_core.catalog.stats import CatalogStats
from constellation_core.gossip.actions import ExchangeFailed
from constellation_core.gossip.member import Member
from constellation_core.gossip.messages import UserMessage
from constellation_core.gossip.protocol import Protocol
from constellation_core.gossip.streams import StreamMessage
from constellation_core.model.node import NodeState

log = logging.getLogger("constellation.catalog")

_MOST_REQUESTS = 8
_MANY = 8
"""Owners; where more are lacking, nodes are compared with until fewer are."""
_MOST_HINTS = 8
_FEW_NODES = 30
_HURRY = 2.0


class AntiEntropy:
    """Compares and pulls.

    Args:
        replica: what is known.
        own: this node's rows.
        protocol: carries requests, and has the timers.
        rng: all chance comes from it.
        pull_delay: an owner is pulled from after a random time up to this, in seconds, in a
            small cluster; the time grows with the nodes, which all pull.
        interval: seconds between two pulls from an owner of which there is no news.
        stats: where to count.
        decoder: decodes what others say.

    Attributes:
        warm: whether a whole comparison with another node has succeeded.
    """

    def __init__(
        self,
        replica: Replica,
        own: OwnRows,
        protocol: Protocol,
        rng: Random,
        pull_delay: float,
        interval: float,
        stats: CatalogStats,
        decoder: Decoder,
    ) -> None:
        self._replica = replica
        self._own = own
        self._protocol = protocol
        self._rng = rng
        self._pull_delay = pull_delay
        self._interval = interval
        self._stats = stats
        self._decoder = decoder
        self._asked: set[str] = set()
        self._pulling: dict[str, bool] = {}
        self._pulled: dict[str, tuple[float, Known]] = {}
        self._hurrying = False
        self.warm = False

    # --- comparing ---------------------------------------------------------------------------

    def sync_with_random(self) -> None:
        """Compare with one random node.

        A datagram is enough to find that all is well, and nearly always all is; who finds that it
        is not sees to it. What gets lost is made up for by the next one, or by a push/pull, which
        brings a fingerprint too. A node that waits for its first comparison needs an answer.
        """
        for member in self._protocol.table.choose(1, _is_peer):
            if self.warm:
                self._protocol.send(member.address, UserMessage(encode(self.compare())))
            else:
                self.sync(member)

    def hurry(self) -> None:
        """More changes than broadcasts can carry: compare earlier than usual, once."""
        if not self._hurrying:
            self._hurrying = True
            self._protocol.timers.call_later(_HURRY * self._rng.random(), self._hurried)

    def sync(self, member: Member) -> None:
        """Compare with ``member``; pull and hand over what differs."""
        if member.name in self._asked:
            return
        self._stats.comparisons += 1
        self._request(member, encode(self.compare()), lambda reply: self._compared(member, reply))

    def compare(self) -> Compare:
        """The question whether another node has the same catalog."""
        return Compare(self._own.state.owner, self._replica.fingerprint())

    def on_compare(self, message: Compare) -> bytes:
        """The answer to another node's question."""
        same = self._replica.fingerprint() == message.fingerprint
        return encode(DigestReply({} if same else self._replica.digest()))

    def on_pull(self, message: PullRequest) -> bytes:
        """The answer to another node's pull; what it hands over is taken."""
        own = message.wanted.get(self._own.state.owner)
        if own is not None:
            self._own.hear(own)
        answer = encode(Updates(chunk(self._replica.lacking(message.wanted))))
        self._take_hearsay(message.offered)
        return answer

    def on_state(self, message: Compare, *, join: bool) -> None:
        """A push/pull brought another node's fingerprint."""
        # Both sides get the other's: one comparison is enough.
        if not self.warm or self._own.state.owner < message.node:
            self._sync_if_different(message, join=join)

    def on_fingerprint(self, message: Compare) -> None:
        """A datagram brought another node's fingerprint."""
        self._sync_if_different(message, join=False)

    def _sync_if_different(self, message: Compare, *, join: bool) -> None:
        member = self._protocol.table.get(message.node)
        if member is None or not member.online:
            return
        if join or message.fingerprint != self._replica.fingerprint():
            self.sync(member)

    def warm_up(self) -> None:
        """From now on, what is not known here does not exist."""
        if not self.warm:
            self.warm = True
            known = len(self._replica.view.instances())
            log.info("the catalog is warm: %d instances known", known)

    # --- asking an owner ---------------------------------------------------------------------

    def pull_soon(self, owner: str, *, doubt: bool = False) -> None:
        """Fetch an owner's rows from itself after a short random wait.

        Args:
            owner: whose rows.
            doubt: whether to ask even when nothing is known to be missing, since somebody else
                has other rows of the same version.
        """
        timers = self._protocol.timers
        if owner in self._pulling:
            self._pulling[owner] |= doubt
            return
        state = self._replica.state(owner)
        last = self._pulled.get(owner)
        news = Known(state.epoch, state.heard)
        if last is not None and last[1] == news and timers.now < last[0] + self._interval:
            return
        self._pulling[owner] = doubt
        timers.call_later(self._rng.random() * self._spread(), lambda: self._pull(owner))

    def forget(self, owner: str) -> None:
        """The membership has forgotten a member."""
        self._pulled.pop(owner, None)

    # --- inside ------------------------------------------------------------------------------

    def _hurried(self) -> None:
        self._hurrying = False
        self.sync_with_random()

    def _spread(self) -> float:
        return self._pull_delay * max(1.0, self._protocol.table.online_count() / _FEW_NODES)

    def _pull(self, owner: str) -> None:
        doubt = self._pulling[owner]
        member = self._protocol.table.get(owner)
        if member is None or not _is_peer(member) or not (doubt or self._replica.behind(owner)):
            del self._pulling[owner]
            return
        timers = self._protocol.timers
        many = len(self._pulling) > _MANY and not doubt
        if many:
            # A comparison brings most of them: when a thousand nodes start, not all ask all.
            self.hurry()
        if many or len(self._asked) >= _MOST_REQUESTS or owner in self._asked:
            timers.call_later((1 + self._rng.random()) * self._spread(), lambda: self._pull(owner))
            return
        del self._pulling[owner]
        state = self._replica.state(owner)
        self._pulled[owner] = (timers.now, Known(state.epoch, state.heard))
        self._stats.pulls += 1
        request = PullRequest({owner: state.known})
        self._request(member, encode(request), lambda reply: self._answered(member, reply))

    def _answered(self, member: Member, reply: object) -> None:
        if isinstance(reply, Updates):
            for update in reply.updates:
                if update.owner == member.name:
                    self._replica.take(update, from_owner=True)

    def _compared(self, member: Member, reply: object) -> None:
        if isinstance(reply, DigestReply):
            own = reply.digest.get(self._own.state.owner)
            if own is not None:
                self._own.hear(own)
            self._exchange(member, dict(reply.digest))

    def _exchange(self, member: Member, digest: dict[str, Known]) -> None:
        """One round: hand over and pull what one message holds of what ``digest`` differs by."""
        wanted = self._replica.wanted(digest)
        for owner in wanted.from_owner:
            self.pull_soon(owner, doubt=True)
        offered = chunk(self._replica.lacking(digest))
        if not wanted.here and not offered:
            self.warm_up()
            return
        self._stats.pulls += 1
        for update in offered:
            digest[update.owner] = self._replica.state(update.owner).known

        def on_reply(reply: object) -> None:
            if not isinstance(reply, Updates):
                return
            mine = [each for each in reply.updates if each.owner in wanted.here]
            self._take_hearsay(mine, member.name)
            left = self._replica.wanted(digest).here
            if offered or len(left) < len(wanted.here):
                self._exchange(member, digest)
            else:
                self.warm_up()

        self._request(member, encode(PullRequest(wanted.here, offered)), on_reply)

    def _take_hearsay(self, updates: Iterable[Update], source: str = "") -> None:
        """Take what a node says of others, and let some of these others know."""
        news = []
        for update in updates:
            owner = update.owner
            if owner == self._own.state.owner:
                self._own.hear_update(update)
                continue
            taken = self._replica.take(update, from_owner=owner == source)
            if taken.gap:
                self.pull_soon(owner)
            if taken.news and owner != source:
                news.append(owner)
        for owner in self._rng.sample(news, min(len(news), _MOST_HINTS)):
            member = self._protocol.table.get(owner)
            if member is not None and _is_peer(member):
                hint = encode(Heard(owner, self._replica.state(owner).known))
                self._protocol.send(member.address, UserMessage(hint))

    def _request(self, member: Member, payload: bytes, done: Callable[[object], None]) -> None:
        """Ask ``member``; one question at a time."""
        self._asked.add(member.name)

        def on_reply(reply: StreamMessage | ExchangeFailed) -> None:
            self._asked.discard(member.name)
            if not isinstance(reply, UserMessage):
                return
            try:
                message = self._decoder.decode(reply.payload)
            except CatalogMessageError as error:
                self._stats.reject(f"{member.name}: {error}")
                return
            done(message)

        self._protocol.request(member, payload, on_reply)


def _is_peer(member: Member) -> bool:
    """Whether a member speaks the catalog's messages, and can be expected to answer."""
    return member.state is NodeState.ALIVE and epoch_of(member) is not None
