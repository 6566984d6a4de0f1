"""What stands in the log: bytes, and never a pickle.

The first byte is the kind, with the numbers that PySyncObj gives them. The library would
unpickle what follows; :mod:`.replica` overrides the places where it does, so that a command of
kind ``APPLY`` is the operation itself and a change of the voters is MessagePack.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeAlias
from uuid import UUID

import msgpack

from constellation_core.consensus.interface import Voter

Entry: TypeAlias = tuple[bytes, int, int]
"""Command, index, term: the order is PySyncObj's."""

APPLY = 0
NO_OP = 1
MEMBERSHIP = 2

NO_OP_COMMAND = bytes((NO_OP,))
MAX_OPERATION = 128 * 1024
"""Bytes of one operation."""

MAX_COMMAND = MAX_OPERATION + 1
_MAX_ADDRESS = 255


@dataclass(frozen=True, slots=True)
class Change:
    """One voter more, or one less."""

    kind: Literal["add", "remove"]
    voter: Voter


def apply_command(operation: bytes) -> bytes:
    """The command that has ``operation`` carried out.

    Raises:
        ValueError: it is too large.
    """
    if len(operation) > MAX_OPERATION:
        raise ValueError(f"an operation has at most {MAX_OPERATION} bytes, not {len(operation)}")
    return bytes((APPLY,)) + operation


def change_command(change: Change) -> bytes:
    """The command that changes the voters."""
    fields = [change.kind, change.voter.id, change.voter.address]
    body: bytes = msgpack.packb(fields)
    return bytes((MEMBERSHIP,)) + body


def parse_change(command: bytes) -> Change | None:
    """The change of the voters that ``command`` is, or ``None``.

    Raises:
        ValueError: it is one, but not a valid one.
    """
    if command[:1] != bytes((MEMBERSHIP,)):
        return None
    try:
        fields = msgpack.unpackb(command[1:], max_array_len=3)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError("not a change of the voters") from error
    if not isinstance(fields, list) or len(fields) != 3 or fields[0] not in ("add", "remove"):
        raise ValueError("not a change of the voters")
    return Change(fields[0], parse_voter(fields[1:]))


def check_command(command: bytes) -> None:
    """Refuse what could not have been put into the log by this code.

    Raises:
        ValueError: with the reason.
    """
    if not 1 <= len(command) <= MAX_COMMAND:
        raise ValueError("a command of impossible size")
    if command[0] == MEMBERSHIP:
        parse_change(command)
    elif command[0] == NO_OP:
        if len(command) > 1:
            raise ValueError("a no-op with something behind it")
    elif command[0] != APPLY:
        raise ValueError("a command of unknown kind")


def parse_voter(fields: object) -> Voter:
    """A voter from its id and address, as they come from disk or the network.

    Raises:
        ValueError: they are neither.
    """
    if not (isinstance(fields, list) and len(fields) == 2):
        raise ValueError("not a voter")
    voter_id, address = fields
    if not (isinstance(voter_id, str) and isinstance(address, str)):
        raise ValueError("not a voter")
    if str(UUID(voter_id)) != voter_id:
        raise ValueError("a voter's id is a UUID in its usual form")
    if len(address) > _MAX_ADDRESS:
        raise ValueError("not an address")
    split_address(address)
    return Voter(voter_id, address)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; the host is an IP literal, IPv6 in brackets.

    Names are not taken: looking one up could hold up the engine's thread for seconds.

    Raises:
        ValueError: it has another form.
    """
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    wrong = f"{address!r} is not IP:PORT, such as 10.0.0.1:7947 or [fd00::1]:7947"
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(wrong) from None
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(wrong)
    return host, int(port)
