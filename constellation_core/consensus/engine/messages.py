"""Raft's messages on the wire: MessagePack with a schema, and nothing else is accepted.

In memory a message is the dictionary that PySyncObj makes of it. Of its messages only those
that replicate the log and elect a leader exist here: commands are not forwarded, there are no
read-only nodes, and no utility messages. Four fields and three messages are added:

- ``term`` in ``next_node_idx`` says which leader is answered;
- ``transfer`` in ``request_vote`` says that the leader wanted this election;
- ``pre_vote``, ``pre_vote_reply`` and ``newer_term``, see :mod:`.elections`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgpack

from constellation_core.consensus.engine.commands import Entry, check_command
from constellation_core.consensus.engine.snapshots import CHUNK

Message: TypeAlias = dict[str, Any]
_Check: TypeAlias = Callable[[Any], bool]
_MAX_INDEX = 1 << 62
_MAX_ENTRIES = 1 << 16
_ENTRY_OVERHEAD = 24
_MAX_ENTRIES_BYTES = 768 * 1024


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_INDEX


def _flag(value: Any) -> bool:
    return type(value) is bool


def _entries(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_ENTRIES and all(map(_entry, value))


def _entry(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], bytes)):
        return False
    check_command(value[0])
    return _number(value[1]) and _number(value[2])


def _piece(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], bytes)
        and len(value[0]) <= CHUNK
        and _flag(value[1])
        and _flag(value[2])
    )


_VOTE: Mapping[str, _Check] = {
    "term": _number,
    "last_log_index": _number,
    "last_log_term": _number,
}
_APPEND: Mapping[str, _Check] = {
    "term": _number,
    "commit_index": _number,
    "entries": _entries,
    "prevLogIdx": _number,
    "prevLogTerm": _number,
}
_INSTALL: Mapping[str, _Check] = {
    "term": _number,
    "commit_index": _number,
    "serialized": _piece,
}
_ACKNOWLEDGE: Mapping[str, _Check] = {
    "term": _number,
    "next_node_idx": _number,
    "reset": _flag,
    "success": _flag,
}
# The first letter of a message says which it is.
_SCHEMAS: Mapping[str, tuple[str, Mapping[str, _Check]]] = {
    "V": ("request_vote", {**_VOTE, "transfer": _flag}),
    "v": ("response_vote", {"term": _number}),
    "A": ("append_entries", _APPEND),
    "S": ("append_entries", _INSTALL),
    "a": ("next_node_idx", _ACKNOWLEDGE),
    "T": ("timeout_now", {"term": _number}),
    "P": ("pre_vote", _VOTE),
    "p": ("pre_vote_reply", {"term": _number, "granted": _flag}),
    "N": ("newer_term", {"term": _number}),
}


class MessageError(ValueError):
    """Not a message of this protocol."""


def encode_message(message: Message) -> bytes:
    """The bytes of a message.

    Raises:
        MessageError: it is none that may leave this voter.
    """
    for letter, (kind, schema) in _SCHEMAS.items():
        if message["type"] == kind and message.keys() == schema.keys() | {"type"}:
            packed: bytes = msgpack.packb([letter, *(message[name] for name in schema)])
            return packed
    raise MessageError(f"a message {message['type']!r} with fields {sorted(message)}")


def leaves_early(message: Message) -> bool:
    """Whether a message may leave before the sender's own journal is durable.

    A leader may write to its disk while the others write to theirs (Ongaro's dissertation,
    section 10.2.1): what it sends promises nothing about its own disk, as long as it counts
    itself among those who have an entry only when it has. All else is a promise: a vote, an
    acknowledgement, a campaign in a new term.
    """
    return bool(message["type"] == "append_entries")


def decode_message(data: bytes) -> Message:
    """The message in a frame, every field checked.

    Raises:
        MessageError: it is not valid.
    """
    try:
        fields = msgpack.unpackb(data, max_map_len=0, max_ext_len=0)
        letter, *values = fields
        kind, schema = _SCHEMAS[letter]
        if len(values) != len(schema):
            raise MessageError("it has another number of fields")
        for (name, valid), value in zip(schema.items(), values, strict=True):
            if not valid(value):
                raise MessageError(f"the field {name} of {kind} is not valid")
    except (ValueError, TypeError, KeyError, msgpack.UnpackException, RecursionError) as error:
        raise MessageError(f"not a message: {error}") from error
    message = {"type": kind, **dict(zip(schema, values, strict=True))}
    if "entries" in message:
        message["entries"] = _consecutive(message)
    if message.get("serialized") is not None:
        message["serialized"] = tuple(message["serialized"])
    return message


def fitting(entries: Sequence[Entry]) -> Sequence[Entry]:
    """As many of the first entries as a frame can hold; who lacks the rest will ask for it."""
    size = 0
    for position, (command, _, _) in enumerate(entries):
        size += len(command) + _ENTRY_OVERHEAD
        if size > _MAX_ENTRIES_BYTES:
            return entries[:position]
    return entries


def _consecutive(message: Message) -> list[tuple[bytes, int, int]]:
    index, term = message["prevLogIdx"], message["prevLogTerm"]
    entries = [tuple(entry) for entry in message["entries"]]
    for _, each, each_term in entries:
        if each != index + 1 or each_term < term:
            raise MessageError("the entries do not follow each other")
        index, term = each, each_term
    if term > message["term"]:
        raise MessageError("an entry is newer than its leader")
    return entries
