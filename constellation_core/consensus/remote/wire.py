"""Requests to a voter and its replies, as bytes.

A message is a MessagePack list: version, kind, and the fields of the kind. A reply is one message,
but for answers that are larger: these are cut between entries. Whatever is not as it is written
here is refused before anything is done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest
from typing import TypeAlias, TypeVar

import msgpack

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import EngineStatus, Voter
from constellation_core.consensus.remote.status import decode_status, encode_status
from constellation_core.consensus.remote.values import (
    MalformedError,
    count,
    flag,
    items,
    text,
    unpack,
    voter,
)
from constellation_core.consensus.state import Answer, Entry, Query
from constellation_core.consensus.state.changes import REMEMBERED
from constellation_core.consensus.state.limits import MAX_KEY, MAX_TOTAL, MAX_VALUE
from constellation_core.consensus.state.queries import decode_query, encode_query

T = TypeVar("T")

MAX_OPERATION = MAX_VALUE + MAX_KEY + 256
"""Bytes of an operation that a client may ask for."""

MAX_REQUEST = MAX_OPERATION + 256
"""Bytes."""

MAX_EPOCHS = 1024
"""Leases that one request may renew."""

MAX_TIMEOUT = 60.0
"""Seconds; more is not waited for."""

SHARE = 0.9
"""Of the time that is left, what the next one on the way is given: its answer has a way too, and
silence means that it is gone."""

PIECE = 64 * 1024
"""Bytes of entries and names after which an answer goes on in another message."""

MAX_MESSAGE = 256 * 1024
"""Bytes of one message of a reply."""

MAX_REPLY = MAX_TOTAL + REMEMBERED * (MAX_KEY + 8) + 1024 * 1024
"""Bytes of all messages of a reply."""

_VERSION = 1
_REASON = 300


class _Kind(IntEnum):
    """A number's meaning never changes."""

    PROPOSE = 1
    QUERY = 2
    RENEW = 3
    STATUS = 4
    RESULT = 5
    ANSWER = 6
    RENEWED = 7
    STANDING = 8
    FAILURE = 9


@dataclass(frozen=True, slots=True)
class Propose:
    """Have an operation carried out. Only what clients may ask for; see :mod:`.service`."""

    operation: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Read; as :meth:`~..access.Access.query`."""

    query: Query
    linearizable: bool
    wait: float


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """Renew the leases with these epochs."""

    epochs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskStatus:
    """How this voter sees the group."""


Body: TypeAlias = Propose | Ask | RenewLeases | AskStatus


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a voter.

    Attributes:
        body: what.
        timeout: seconds that the voter may take, those of waiting for a change not counted.
        forwarded: another voter passes it on, so that this one must not.
    """

    body: Body
    timeout: float
    forwarded: bool = False

    @property
    def patience(self) -> float:
        """Seconds until the reply is to begin."""
        return self.timeout + (self.body.wait if isinstance(self.body, Ask) else 0.0)


class Outcome(IntEnum):
    """Why there is no result. A number's meaning never changes."""

    NOT_LEADER = 1
    UNAVAILABLE = 2
    UNKNOWN = 3
    APPLY_FAILED = 4
    REFUSED = 5
    """It is no request, or none that a client may send; nothing was done."""


@dataclass(frozen=True, slots=True)
class Failure:
    """There is no result.

    Attributes:
        outcome: why.
        reason: the same for people.
        leader: with ``NOT_LEADER``, who is thought to lead.
    """

    outcome: Outcome
    reason: str = ""
    leader: Voter | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """The operation was carried out; ``result`` is the state's."""

    result: bytes


Reply: TypeAlias = Carried | Answer | Renewal | EngineStatus | Failure


def encode_request(request: Request) -> bytes:
    """The bytes of ``request``; longer times than :data:`MAX_TIMEOUT` become that."""
    head = request.forwarded, _milliseconds(request.timeout)
    match request.body:
        case Propose(operation):
            return _message(_Kind.PROPOSE, *head, operation)
        case Ask(query, linearizable, wait):
            asked = encode_query(query)
            return _message(_Kind.QUERY, *head, asked, linearizable, _milliseconds(wait))
        case RenewLeases(epochs):
            return _message(_Kind.RENEW, *head, *epochs)
        case AskStatus():
            return _message(_Kind.STATUS, *head)


def decode_request(data: bytes) -> Request:
    """The request that has these bytes.

    Raises:
        MalformedError: for other bytes.
    """
    if len(data) > MAX_REQUEST:
        raise MalformedError("too long for a request")
    match unpack(data):
        case [1, kind, forwarded, timeout, *fields]:
            body = _body(count(kind), fields)
            return Request(body, _seconds(timeout), flag(forwarded))
    raise MalformedError("not a request, or of another version")


def encode_reply(reply: Reply) -> Iterator[bytes]:
    """The messages of ``reply``, each made when it is asked for."""
    match reply:
        case Carried(result):
            yield _message(_Kind.RESULT, result)
        case Answer():
            yield from _answer_messages(reply)
        case Renewal(lost, next_in):
            yield _message(_Kind.RENEWED, list(lost), _milliseconds(next_in))
        case EngineStatus():
            yield _message(_Kind.STANDING, encode_status(reply))
        case Failure(outcome, reason, leader):
            hint = None if leader is None else [leader.id, leader.address]
            yield _message(_Kind.FAILURE, int(outcome), reason[:_REASON], hint)


def decode_reply(messages: Sequence[bytes]) -> Reply:
    """The reply that has these messages.

    Raises:
        MalformedError: for others.
    """
    parts = [_reply(message) for message in messages]
    if len(parts) == 1:
        return parts[0]
    answers = [part for part in parts if isinstance(part, Answer)]
    heads = {(answer.revision, answer.complete) for answer in answers}
    if len(answers) < len(parts) or len(heads) != 1:
        raise MalformedError("messages that are not one reply")
    revision, complete = heads.pop()
    return Answer(
        revision,
        complete,
        tuple(entry for answer in answers for entry in answer.entries),
        tuple(name for answer in answers for name in answer.gone),
    )


def _body(kind: int, fields: list[object]) -> Body:
    match kind, fields:
        case _Kind.PROPOSE, [bytes(operation)] if len(operation) <= MAX_OPERATION:
            return Propose(operation)
        case _Kind.QUERY, [bytes(query), linearizable, wait]:
            return Ask(_query(query), flag(linearizable), _seconds(wait))
        case _Kind.RENEW, [*epochs] if 0 < len(epochs) <= MAX_EPOCHS:
            return RenewLeases(tuple(count(epoch, least=1) for epoch in epochs))
        case _Kind.STATUS, []:
            return AskStatus()
    raise MalformedError("no such kind of request, or not its fields")


def _query(data: bytes) -> Query:
    try:
        query = decode_query(data)
    except ValueError as error:
        raise MalformedError(str(error)) from error
    text(query.name, most=MAX_KEY)
    if query.after is not None:
        count(query.after)
    return query


def _reply(data: bytes) -> Reply:
    if len(data) > MAX_MESSAGE:
        raise MalformedError("too long for a message")
    match unpack(data):
        case [1, _Kind.RESULT, bytes(result)]:
            return Carried(result)
        case [1, _Kind.ANSWER, revision, complete, list(entries), list(gone)]:
            return Answer(
                count(revision),
                flag(complete),
                items(entries, _entry),
                items(gone, _name),
            )
        case [1, _Kind.RENEWED, list(lost), next_in]:
            return Renewal(items(lost, count), count(next_in) / 1000)
        case [1, _Kind.STANDING, standing]:
            return decode_status(standing)
        case [1, _Kind.FAILURE, outcome, reason, hint]:
            return Failure(_outcome(outcome), text(reason, most=4 * _REASON), _hint(hint))
    raise MalformedError("not a reply, or of another version")


def _answer_messages(answer: Answer) -> Iterator[bytes]:
    entries = _cut(answer.entries, lambda entry: len(entry.value) + 4 * len(entry.key) + 32)
    gone = _cut(answer.gone, lambda name: 4 * len(name) + 8)
    for some, names in zip_longest(entries, gone, fillvalue=()):
        rows = [[entry.key, entry.value, entry.revision] for entry in some]
        yield _message(_Kind.ANSWER, answer.revision, answer.complete, rows, list(names))


def _cut(whole: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Lists of what is in ``whole``, of about :data:`PIECE` bytes each."""
    piece: list[T] = []
    total = 0
    for each in whole:
        if total > PIECE:
            yield piece
            piece, total = [], 0
        piece.append(each)
        total += size(each)
    yield piece


def _entry(item: object) -> Entry:
    match item:
        case [key, bytes(value), revision] if len(value) <= MAX_VALUE:
            return Entry(_name(key), value, count(revision))
    raise MalformedError("not an entry")


def _name(item: object) -> str:
    return text(item, most=MAX_KEY)


def _outcome(item: object) -> Outcome:
    try:
        return Outcome(count(item))
    except ValueError as error:
        raise MalformedError("no such outcome") from error


def _hint(item: object) -> Voter | None:
    return None if item is None else voter(item)


def _message(kind: _Kind, *fields: object) -> bytes:
    packed: bytes = msgpack.packb([_VERSION, int(kind), *fields])
    return packed


def _milliseconds(seconds: float) -> int:
    return round(min(max(seconds, 0.0), MAX_TIMEOUT) * 1000)


def _seconds(item: object) -> float:
    return count(item, most=round(MAX_TIMEOUT * 1000)) / 1000
