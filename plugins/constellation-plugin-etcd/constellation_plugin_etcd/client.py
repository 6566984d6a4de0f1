"""The requests to etcd that are made here. Each is one attempt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from constellation_core.consensus import ConsensusError, Unavailable, Unknown
from constellation_plugin_etcd.answers import FAILED_PRECONDITION, NOT_FOUND, Refusal, failure
from constellation_plugin_etcd.exchange import Document
from constellation_plugin_etcd.gateway import Gateway
from constellation_plugin_etcd.messages import (
    Events,
    Found,
    KeyValue,
    Outcome,
    Span,
    events_in,
    found_in,
    key_value_in,
    number,
    outcome_in,
)

A = TypeVar("A")
T = TypeVar("T")


class Compacted(ConsensusError):  # noqa: N818 - as the outcomes of the core
    """What happened since then is not known any more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a member that thinks that it leads said of an etcd lease.

    Attributes:
        term: Raft's, of the last entry that the answering member had carried out before.
        ttl: seconds for which the lease is granted anew; 0: there is no such lease.
    """

    term: int
    ttl: int


class EtcdClient:
    """Typed requests.

    All may raise ``Unavailable`` when nothing was done and ``Unknown`` when it may be.

    Args:
        gateway: the way to the members.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._revision = 0

    async def range(self, span: Span, *, timeout: float, serializable: bool = False) -> Found:
        """Read; with ``serializable`` what some member knows, else what is acknowledged."""
        asked: Document = span.document()
        if serializable:
            asked["serializable"] = True
        seen = self._revision
        answer = await self._gateway.call(
            "/v3/kv/range", asked, timeout=timeout, leader=not serializable
        )
        found = _read(found_in, answer)
        if not serializable:
            self._note(seen, found.revision)
        return found

    async def first_written(self, span: Span, count: int, *, timeout: float) -> Found:
        """The ``count`` keys of the span that were last written longest ago."""
        asked = span.document() | {"sort_target": "MOD", "sort_order": "ASCEND"}
        asked |= {"limit": str(count), "keys_only": True}
        answer = await self._gateway.call("/v3/kv/range", asked, timeout=timeout)
        return _read(found_in, answer)

    async def txn(
        self,
        compare: Sequence[Document],
        success: Sequence[Document],
        otherwise: Sequence[Document] = (),
        *,
        timeout: float,
    ) -> Outcome:
        """Do all of ``success`` at one moment if all of ``compare`` holds, else ``otherwise``."""
        asked = {"compare": [*compare], "success": [*success], "failure": [*otherwise]}
        seen = self._revision
        answer = await self._gateway.call("/v3/kv/txn", asked, timeout=timeout)
        outcome = _read(outcome_in, answer)
        self._note(seen, outcome.revision)
        done = success if outcome.succeeded else otherwise
        if len(outcome.found) != sum("request_range" in each for each in done):
            raise Unknown("etcd did not answer all that was asked")
        return outcome

    async def grant(self, lease: int, ttl: int, *, timeout: float) -> None:
        """Make an etcd lease of ``ttl`` seconds under a number that nobody else uses."""
        asked = {"ID": str(lease), "TTL": str(ttl)}
        try:
            await self._gateway.call("/v3/lease/grant", asked, timeout=timeout)
        except Refusal as error:
            # "lease already exists": an attempt before this one was carried out.
            if error.code != FAILED_PRECONDITION:
                raise

    async def revoke(self, lease: int, *, timeout: float) -> None:
        """End an etcd lease, and delete the keys that end with it."""
        try:
            await self._gateway.call("/v3/lease/revoke", {"ID": str(lease)}, timeout=timeout)
        except Refusal as error:
            if error.code != NOT_FOUND:
                raise

    async def keep_alive(self, lease: int, *, timeout: float) -> Kept:
        """Have an etcd lease live for its ttl from now on.

        This goes to whoever thinks that it leads, and not through Raft's log.
        """
        answer = await self._gateway.call(
            "/v3/lease/keepalive", {"ID": str(lease)}, timeout=timeout
        )
        result = answer.get("result")
        if not isinstance(result, dict):
            raise failure(answer)
        return _read(_kept_in, result)

    async def watch(
        self, span: Span, start: int, *, silence: float
    ) -> AsyncGenerator[Events, None]:
        """What happens from revision ``start`` on. Ends when nothing did for ``silence`` seconds.

        To be closed when it is not read to its end. All of a revision is told at once.

        Raises:
            Compacted: what happened first is not known any more.
        """
        # In fragments, or what a member sends at once may be larger than what it may send.
        asked = span.document() | {"start_revision": str(start), "fragment": True}
        parts: list[Document] = []
        stream = self._gateway.stream("/v3/watch", {"create_request": asked}, silence=silence)
        async with aclosing(stream) as elements:
            async for element in elements:
                _require_going(element)
                parts.append(element)
                if element.get("fragment"):
                    continue
                events = _read(events_in, parts)
                parts = []
                if events.entries or events.gone:
                    yield events

    async def next_write(self, key: bytes, after: int, *, timeout: float) -> KeyValue:
        """How ``key`` was when it was first written after revision ``after``.

        Raises:
            Compacted: that is not known any more.
        """
        asked = Span(key).document() | {"start_revision": str(after + 1)}
        asked |= {"filters": ["NODELETE"]}
        stream = self._gateway.stream("/v3/watch", {"create_request": asked}, silence=timeout)
        async with aclosing(stream) as elements:
            async for element in elements:
                _require_going(element)
                if element.get("events"):
                    return _read(lambda each: key_value_in(each["events"][0]["kv"]), element)
        raise Unavailable("this member does not know of a write")

    def _note(self, seen: int, now: int) -> None:
        """Take note of a revision that was linearizable, and asked for when ``seen`` was known.

        Raises:
            Unavailable: it went back, which only happens when etcd was put back from a backup.
        """
        if now < seen:
            raise Unavailable("etcd was put back to an earlier state: restart the agents")
        self._revision = max(self._revision, now)


def _kept_in(result: Document) -> Kept:
    return Kept(number(result.get("header") or {}, "raft_term"), number(result, "TTL"))


def _read(parse: Callable[[A], T], answer: A) -> T:
    """What ``parse`` finds in an answer.

    Raises:
        Unknown: it is not as etcd's answers are.
    """
    try:
        return parse(answer)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Unknown("what answered does not speak etcd's JSON") from error


def _require_going(element: Document) -> None:
    """Raise what ended a watch, if it has ended."""
    if _read(lambda each: number(each, "compact_revision"), element):
        raise Compacted("what happened then is compacted")
    if element.get("canceled"):
        raise Unavailable(f"the watch ended: {element.get('cancel_reason', '')}")
