"""Requests to etcd, and what of its answers is used.

Fields are named as in etcd's ``rpc.proto`` and ``kv.proto``. In JSON, 64-bit numbers are strings,
bytes are base64, and fields that are zero or empty are left out. What is no such answer makes
the readers below raise a ``ValueError`` or one of those that come of a wrong type.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key of etcd's.

    Attributes:
        key: all of it, with the prefix.
        value: its value.
        created: the revision at which it came to be; another one after it was deleted.
        modified: the revision at which it was last written.
        version: how often it was written since it came to be.
        lease: the etcd lease that it ends with; 0: none.
    """

    key: bytes
    value: bytes
    created: int
    modified: int
    version: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Keys: one of them, or those from ``key`` up to but without ``end``."""

    key: bytes
    end: bytes = b""

    @classmethod
    def below(cls, prefix: bytes) -> Span:
        """All keys that begin with ``prefix``, whose last byte is not 0xff."""
        return cls(prefix, prefix[:-1] + bytes([prefix[-1] + 1]))

    def document(self) -> Document:
        """Its fields in a request."""
        fields = {"key": encoded(self.key)}
        return fields | {"range_end": encoded(self.end)} if self.end else fields


@dataclass(frozen=True, slots=True)
class Found:
    """What a range gave.

    Attributes:
        revision: the cluster's.
        term: Raft's, of the last entry that the answering member had carried out.
        entries: by key.
        count: how many there are.
    """

    revision: int
    term: int
    entries: tuple[KeyValue, ...]
    count: int

    @property
    def only(self) -> KeyValue | None:
        """The one entry, if there is one."""
        return self.entries[0] if self.entries else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction gave.

    Attributes:
        succeeded: whether the comparisons held.
        revision: the cluster's, afterwards.
        found: what the ranges among its operations gave, in their order.
    """

    succeeded: bool
    revision: int
    found: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Events:
    """What a watch tells.

    Attributes:
        revision: of the last event; all before it has been told.
        entries: what was written, the latest of each key only.
        gone: keys that were deleted and not written again.
    """

    revision: int
    entries: tuple[KeyValue, ...]
    gone: tuple[bytes, ...]


def encoded(data: bytes) -> str:
    """Bytes as they stand in JSON."""
    return b64encode(data).decode()


def get(span: Span, *, count_only: bool = False) -> Document:
    """The operation of a transaction that reads ``span``."""
    fields = span.document() | ({"count_only": True} if count_only else {})
    return {"request_range": fields}


def put(key: bytes, value: bytes, lease: int = 0) -> Document:
    """The operation that writes a key, which ends with ``lease``."""
    fields = {"key": encoded(key), "value": encoded(value)}
    return {"request_put": fields | ({"lease": str(lease)} if lease else {})}


def delete(key: bytes) -> Document:
    """The operation that deletes a key, if it is there."""
    return {"request_delete_range": {"key": encoded(key)}}


def modified_is(key: bytes, revision: int) -> Document:
    """The comparison that holds if the key was last written at ``revision`` (0: is not there)."""
    return _comparison(key, "MOD", "mod_revision", revision)


def created_is(key: bytes, revision: int) -> Document:
    """The comparison that holds if the key came to be at ``revision`` (0: is not there)."""
    return _comparison(key, "CREATE", "create_revision", revision)


def _comparison(key: bytes, target: str, field: str, number: int) -> Document:
    return {"key": encoded(key), "target": target, "result": "EQUAL", field: str(number)}


def found_in(answer: Mapping[str, Any]) -> Found:
    """The answer to a range."""
    with_header = answer.get("header") or {}
    entries = tuple(key_value_in(each) for each in answer.get("kvs") or ())
    return Found(
        number(with_header, "revision"),
        number(with_header, "raft_term"),
        entries,
        number(answer, "count"),
    )


def outcome_in(answer: Mapping[str, Any]) -> Outcome:
    """The answer to a transaction."""
    found = tuple(
        found_in(each["response_range"])
        for each in answer.get("responses") or ()
        if "response_range" in each
    )
    revision = number(answer.get("header") or {}, "revision")
    return Outcome(bool(answer.get("succeeded")), revision, found)


def events_in(elements: list[Document]) -> Events:
    """What elements of a watch, read together, tell.

    What the header has for a revision is that of the member: it may have more to tell up to there.
    """
    entries: dict[bytes, KeyValue | None] = {}
    revision = 0
    for element in elements:
        for event in element.get("events") or ():
            entry = key_value_in(event["kv"])
            # A deleted key's is that of its end.
            revision = max(revision, entry.modified)
            deleted = event.get("type", "PUT") == "DELETE"
            # In the order in which it happened.
            entries.pop(entry.key, None)
            entries[entry.key] = None if deleted else entry
    written = tuple(entry for entry in entries.values() if entry is not None)
    gone = tuple(key for key, entry in entries.items() if entry is None)
    return Events(revision, written, gone)


def number(fields: Mapping[str, Any], name: str) -> int:
    """A number; 0 when it is left out."""
    return int(fields.get(name, 0))


def key_value_in(fields: Mapping[str, Any]) -> KeyValue:
    """A key of an answer."""
    return KeyValue(
        b64decode(fields.get("key", ""), validate=True),
        b64decode(fields.get("value", ""), validate=True),
        number(fields, "create_revision"),
        number(fields, "mod_revision"),
        number(fields, "version"),
        number(fields, "lease"),
    )
