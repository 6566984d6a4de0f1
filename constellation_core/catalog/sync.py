"""Anti-entropy: finds what broadcasts missed, and pulls it over TCP.

Two nodes compare fingerprints of their digests; only if these differ a digest travels, and then
only the rows that one side lacks, in both directions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random

from constellation_core.catalog.messages import (
    CatalogMessageError,
    Compare,
    Decoder,
    DigestReply,
    PullRequest,
    Updates,
    encode,
)
from constellation_core.catalog.owners import Update
from constellation_core.catalog.replica import CatalogStats, Replica, Taken
from constellation_core.gossip.actions import ExchangeFailed
from constellation_core.gossip.member import EPOCH_TAG, Member, decode_tags
from constellation_core.gossip.messages import UserMessage
from constellation_core.gossip.protocol import Protocol
from constellation_core.gossip.streams import StreamMessage
from constellation_core.model.node import NodeState

log = logging.getLogger("constellation.catalog")


class AntiEntropy:
    """Compares and pulls.

    Attributes:
        warm: whether a whole comparison with another node has succeeded.
    """

    def __init__(
        self,
        replica: Replica,
        protocol: Protocol,
        rng: Random,
        pull_delay: float,
        stats: CatalogStats,
        decoder: Decoder,
    ) -> None:
        self._replica = replica
        self._protocol = protocol
        self._rng = rng
        self._pull_delay = pull_delay
        self._stats = stats
        self._decoder = decoder
        self._pulling: set[str] = set()
        self.warm = False

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

    def sync(self, member: Member) -> None:
        """Compare with ``member``; pull and hand over what differs."""
        self._request(member, encode(self.compare()), lambda reply: self._compared(member, reply))

    def compare(self) -> Compare:
        """The question whether another node has the same catalog."""
        return Compare(self._replica.own.owner, self._replica.fingerprint())

    def on_compare(self, message: Compare) -> bytes:
        """The answer to another node's question."""
        same = self._replica.fingerprint() == message.fingerprint
        return encode(DigestReply({} if same else self._replica.digest()))

    def on_pull(self, message: PullRequest) -> bytes:
        """The answer to another node's pull; what it hands over is taken."""
        answer = encode(Updates(tuple(self._replica.lacking(message.wanted))))
        for update in message.offered:
            self.take(update)
        return answer

    def on_state(self, message: Compare, *, join: bool) -> None:
        """A push/pull or a datagram brought another node's fingerprint."""
        member = self._protocol.table.get(message.node)
        differs = message.fingerprint != self.compare().fingerprint
        if member is not None and member.online and (join or differs):
            self.sync(member)

    def take(self, update: Update) -> bool:
        """Apply an update; pulls the owner's rows when it does not fit. Whether it was news."""
        taken = self._replica.take(update)
        if taken is Taken.GAP:
            self.pull_soon(update.owner)
        return taken is Taken.APPLIED

    def pull_soon(self, owner: str) -> None:
        """Fetch an owner's rows from itself after a short random wait; one pull at a time."""
        if owner in self._pulling:
            return
        self._pulling.add(owner)
        delay = self._rng.random() * self._pull_delay
        self._protocol.timers.call_later(delay, lambda: self._pull(owner))

    def _pull(self, owner: str) -> None:
        self._pulling.discard(owner)
        member = self._protocol.table.get(owner)
        if member is None or not _is_peer(member):
            return
        state = self._replica.state(owner)
        self._stats.pulls += 1
        request = encode(PullRequest({owner: (state.epoch, state.version)}))
        self._request(member, request, lambda reply: self._pulled(reply, whole=False))

    def _compared(self, member: Member, reply: object) -> None:
        if not isinstance(reply, DigestReply):
            return
        wanted = self._replica.wanted(reply.digest)
        offered = tuple(self._replica.lacking(reply.digest))
        if not wanted and not offered:
            self.warm_up()
            return
        self._stats.pulls += 1
        request = encode(PullRequest(wanted, offered))
        self._request(member, request, lambda reply: self._pulled(reply, whole=True))

    def _pulled(self, reply: object, *, whole: bool) -> None:
        if not isinstance(reply, Updates):
            return
        for update in reply.updates:
            self.take(update)
        if whole:
            self.warm_up()

    def warm_up(self) -> None:
        """From now on, what is not known here does not exist."""
        if not self.warm:
            self.warm = True
            known = len(self._replica.view.instances())
            log.info("the catalog is warm: %d instances known", known)

    def _request(self, member: Member, payload: bytes, done: Callable[[object], None]) -> None:
        def on_reply(reply: StreamMessage | ExchangeFailed) -> None:
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
    return member.state is NodeState.ALIVE and EPOCH_TAG in decode_tags(member.meta)
