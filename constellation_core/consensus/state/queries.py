"""What can be read of the replicated state, and the bytes in which a client asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import msgpack

_VERSION = 1


class Space(IntEnum):
    """Whose names are meant."""

    KEYS = 1
    LEASES = 2


@dataclass(frozen=True, slots=True)
class Query:
    """Asks for entries, or for what changed of them.

    Attributes:
        space: keys or leases.
        name: one name, or the beginning of the names.
        exact: whether ``name`` is one name.
        after: only what changed after this revision; ``None``: all there is.
    """

    space: Space
    name: str
    exact: bool
    after: int | None = None

    def covers(self, name: str) -> bool:
        """Whether ``name`` is asked for."""
        return name == self.name if self.exact else name.startswith(self.name)


@dataclass(frozen=True, slots=True)
class Entry:
    """A name with its value.

    Attributes:
        key: the key, or the lease's name.
        value: a lease's is that of :meth:`~.leases.Held.value`.
        revision: of the state, when the entry was last written.
    """

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How things stand at a revision.

    Attributes:
        revision: the state's.
        complete: all entries that were asked for are here; what is not here is not there. Else
            only what changed.
        entries: those that are there, by name.
        gone: names that are not there any more; empty when ``complete``.
    """

    revision: int
    complete: bool
    entries: tuple[Entry, ...]
    gone: tuple[str, ...] = ()


def encode_query(query: Query) -> bytes:
    """The bytes of ``query``."""
    packed: bytes = msgpack.packb(
        [_VERSION, int(query.space), query.name, query.exact, query.after]
    )
    return packed


def decode_query(data: bytes) -> Query:
    """The query that has these bytes.

    Raises:
        ValueError: for other bytes.
    """
    match _unpack(data):
        case [1, int(space), str(name), bool(exact), int() | None as after]:
            return Query(Space(space), name, exact, after)
    raise ValueError("not a query")


def encode_answer(answer: Answer) -> bytes:
    """The bytes of ``answer``."""
    entries = [[entry.key, entry.value, entry.revision] for entry in answer.entries]
    packed: bytes = msgpack.packb(
        [_VERSION, answer.revision, answer.complete, entries, list(answer.gone)]
    )
    return packed


def decode_answer(data: bytes) -> Answer:
    """The answer that has these bytes.

    Raises:
        ValueError: for other bytes.
    """
    match _unpack(data):
        case [1, int(revision), bool(complete), list(entries), list(gone)]:
            if not all(isinstance(name, str) for name in gone):
                raise ValueError("not an answer")
            return Answer(revision, complete, tuple(map(_entry, entries)), tuple(gone))
    raise ValueError("not an answer")


def _entry(item: object) -> Entry:
    match item:
        case [str(key), bytes(value), int(revision)]:
            return Entry(key, value, revision)
    raise ValueError("not an entry")


def _unpack(data: bytes) -> object:
    try:
        return msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError("not MessagePack") from error
