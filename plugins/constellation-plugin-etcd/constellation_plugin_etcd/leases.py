"""Leases in etcd: who holds which, and what a block needs of it.

A lease is a key at ``PREFIXleases/NAME`` that ends with an etcd lease of its own; its epoch is the
revision at which the key came to be, which grows over the whole cluster. A holder that is done
leaves a key at ``PREFIXreleased/NAME``, so that nobody has to wait out what it may still do.

The server counts a lease's time from when a grant or keepalive was carried out, the holder from
before it asked, so the holder's ends first. That needs the keepalive to reach the leader that the
cluster has: one that was deposed and has not noticed answers keepalives too (etcd issue 15247), and
the next leader knows nothing of them. So a keepalive counts only if a linearizable read after
it is answered in the same Raft term: whoever led the term of the keepalive, which a member had
carried out an entry of, was then confirmed by a majority afterwards.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from random import Random

from constellation_core.consensus import ConsensusError, Unknown
from constellation_core.consensus.access import Renewal
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.leases import LeaseTimes, LeaseView
from constellation_core.consensus.state.limits import MAX_LEASES, MAX_RELEASED
from constellation_core.consensus.state.results import Granted, HeldByOther
from constellation_plugin_etcd.attempts import Attempts
from constellation_plugin_etcd.client import EtcdClient
from constellation_plugin_etcd.following import follow
from constellation_plugin_etcd.messages import (
    Found,
    KeyValue,
    Outcome,
    Span,
    created_is,
    delete,
    get,
    modified_is,
    put,
)

log = logging.getLogger("constellation.leases")

_CLEANING = 2.0


class EtcdGrants:
    """etcd as :class:`~constellation_core.consensus.leases.Grants`, and those who follow leases.

    Args:
        client: etcd.
        clock: for waits and time limits.
        random: chance in the waits and numbers of etcd leases; must not repeat itself after a
            restart.
        prefix: of all keys of this fleet.
        holder: from :func:`~constellation_core.consensus.leases.holder_id`.
        times: the same on all agents.
    """

    def __init__(
        self,
        client: EtcdClient,
        clock: BootClock,
        random: Random,
        *,
        prefix: bytes,
        holder: str,
        times: LeaseTimes,
    ) -> None:
        self._client = client
        self._clock = clock
        self._random = random
        self._held = prefix + b"leases/"
        self._released = prefix + b"released/"
        self._holder = holder
        self._times = times
        self._numbers: dict[int, int] = {}

    async def ask(self, name: str, ttl: float, *, timeout: float) -> Granted | HeldByOther:
        """As :meth:`~constellation_core.consensus.leases.Grants.ask`."""
        key = self._held + name.encode()
        attempts = Attempts(self._clock, self._random, timeout)
        found = await attempts.read(lambda left: self._client.range(Span(key), timeout=left))
        if found.only is not None:
            return self._other(found.only, found.revision)
        number = self._random.getrandbits(62) + 1
        granted = False
        try:
            result = await self._take(name, key, ttl, number, attempts)
            granted = isinstance(result, Granted)
            return result
        finally:
            if not granted:
                await self._revoke(number)

    async def renew(self, name: str, epoch: int, ttl: float, *, timeout: float) -> Renewal:
        """As :meth:`~constellation_core.consensus.leases.Grants.renew`."""
        attempts = Attempts(self._clock, self._random, timeout)
        number = self._numbers[epoch]
        key = self._held + name.encode()
        kept = await self._client.keep_alive(number, timeout=attempts.left())
        found = await self._client.range(Span(key), timeout=attempts.left())
        if found.only is None or found.only.created != epoch:
            return Renewal((epoch,), 0.0)
        if kept.ttl < ttl or kept.term != found.term:
            raise Unknown("it is not certain that who answered leads the cluster")
        return Renewal((), self._times.interval(ttl))

    async def release(self, name: str, epoch: int, *, timeout: float) -> None:
        """As :meth:`~constellation_core.consensus.leases.Grants.release`."""
        number = self._numbers.pop(epoch)
        key, note = self._held + name.encode(), self._released + name.encode()
        notes = Span.below(self._released)
        attempts = Attempts(self._clock, self._random, timeout)
        try:
            outcome = await attempts.change(
                lambda left: self._client.txn(
                    [created_is(key, epoch)],
                    [delete(key), put(note, b""), get(notes, count_only=True)],
                    timeout=left,
                )
            )
        finally:
            await self._revoke(number)
        if outcome.succeeded and outcome.found[0].count > MAX_RELEASED:
            await self._forget(notes, outcome.found[0].count - MAX_RELEASED)

    async def until_free(self, name: str, revision: int) -> None:
        """As :meth:`~constellation_core.consensus.leases.Grants.until_free`."""
        key = self._held + name.encode()
        # That it was held is all that is known of it at this revision.
        known = Found(revision, 0, (KeyValue(key, b"", 0, 0),), 1)
        following = follow(self._client, self._clock, self._random, Span(key), known)
        async with aclosing(following) as happening:
            async for news in happening:
                if key in news.gone:
                    return

    async def watch(self, name: str) -> AsyncIterator[LeaseView | None]:
        """As :meth:`~constellation_core.consensus.leases.Leases.watch`."""
        span = Span(self._held + name.encode())
        following = follow(self._client, self._clock, self._random, span)
        async with aclosing(following) as happening:
            async for news in happening:
                yield view(news.entries[0]) if news.entries else None

    async def watch_all(self) -> AsyncIterator[Mapping[str, LeaseView]]:
        """As :meth:`~constellation_core.consensus.leases.Leases.watch_all`."""
        held: dict[str, LeaseView] = {}
        span = Span.below(self._held)
        following = follow(self._client, self._clock, self._random, span)
        async with aclosing(following) as happening:
            async for news in happening:
                for key in news.gone:
                    held.pop(self._name(key), None)
                held.update({self._name(entry.key): view(entry) for entry in news.entries})
                yield dict(sorted(held.items()))

    async def _take(
        self, name: str, key: bytes, ttl: float, number: int, attempts: Attempts
    ) -> Granted | HeldByOther:
        """Make an etcd lease, and the key with it if nobody else has it.

        Raises:
            ValueError: there are too many leases.
        """
        await attempts.change(lambda left: self._client.grant(number, math.ceil(ttl), timeout=left))
        value = json.dumps({"holder": self._holder, "ttl": ttl}).encode()
        note = self._released + name.encode()
        take = [
            get(Span(note)),
            get(Span.below(self._held), count_only=True),
            delete(note),
            put(key, value, number),
        ]
        outcome = await attempts.change(
            lambda left: self._client.txn(
                [created_is(key, 0)], take, [get(Span(key))], timeout=left
            )
        )
        if not outcome.succeeded:
            return self._mine_or_other(outcome, number)
        released, others = outcome.found
        if others.count >= MAX_LEASES:
            raise ValueError(f"lease {name} is refused: {MAX_LEASES} are held")
        self._numbers[outcome.revision] = number
        return Granted(outcome.revision, released.only is not None, outcome.revision)

    def _mine_or_other(self, outcome: Outcome, number: int) -> Granted | HeldByOther:
        entry = outcome.found[0].only
        assert entry is not None
        if entry.lease != number:
            return self._other(entry, outcome.revision)
        # An attempt before this one was carried out; how the lease was left before, nobody said.
        self._numbers[entry.created] = number
        return Granted(entry.created, False, outcome.revision)

    def _other(self, entry: KeyValue, revision: int) -> HeldByOther:
        return HeldByOther(view(entry).holder, entry.created, revision)

    async def _revoke(self, number: int) -> None:
        try:
            await self._client.revoke(number, timeout=_CLEANING)
        except ConsensusError as error:
            log.debug("an etcd lease was not revoked and will expire: %s", error)

    async def _forget(self, notes: Span, surplus: int) -> None:
        """Delete the notes of the leases that were released longest ago."""
        try:
            found = await self._client.first_written(notes, surplus, timeout=_CLEANING)
            for entry in found.entries:
                unchanged = modified_is(entry.key, entry.modified)
                await self._client.txn([unchanged], [delete(entry.key)], timeout=_CLEANING)
        except ConsensusError as error:
            log.debug("old notes stay for now: %s", error)

    def _name(self, key: bytes) -> str:
        return key[len(self._held) :].decode(errors="replace")


def view(entry: KeyValue) -> LeaseView:
    """What the key of a lease says; nobody's where that cannot be read."""
    try:
        match json.loads(entry.value):
            case {"holder": str(holder), "ttl": int(ttl) | float(ttl)}:
                return LeaseView(holder, entry.created, float(ttl))
    except ValueError:
        pass
    return LeaseView("", entry.created, 0.0)
