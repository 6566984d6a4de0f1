"""A member of the cluster, and what is said about its fate."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

import msgpack

from constellation_core.gossip.messages import MAX_META, Alive, NodeRow
from constellation_core.model.node import NodeState

Address = tuple[str, int]
"""IP literal and port."""

EPOCH_TAG = "epoch"
"""Metadata of a node: which life the rows that it publishes belong to, in hexadecimal seconds;
greater than in all earlier lives."""
BORN_TAG = "born"
"""Metadata of a node: when it started, in hexadecimal seconds. Tells the elder of two nodes with
one name; it stays when the epoch has to be raised."""

_WIRE_STATES = (NodeState.ALIVE, NodeState.SUSPECT, NodeState.DEAD, NodeState.LEFT)
_ONLINE = (NodeState.ALIVE, NodeState.SUSPECT)
_WIRE_NUMBERS = {state: number for number, state in enumerate(_WIRE_STATES)}
_TAGS = 0xFF


@dataclass(frozen=True, slots=True)
class Member:
    """What this node believes of a member.

    Attributes:
        name: its unique name.
        address: its gossip address.
        incarnation: the number of its last word about itself; only it may raise it.
        state: alive, suspect, dead or left.
        since: when it came into this state, in seconds of the protocol's clock.
        meta: up to 512 bytes that it tells of itself; see :attr:`tags`.
        versions: its protocol and delegate versions, six bytes.
    """

    name: str
    address: Address
    incarnation: int
    state: NodeState
    since: float
    meta: bytes = b""
    versions: bytes = bytes(6)

    @property
    def online(self) -> bool:
        """Alive, as far as anybody knows; a suspect still counts."""
        return self.state in _ONLINE

    @property
    def tags(self) -> Mapping[str, str]:
        """The metadata as words, in Serf's encoding; empty when it is something else."""
        return decode_tags(self.meta)

    def alive(self) -> Alive:
        """The message that tells others of it."""
        return Alive(
            self.incarnation,
            self.name,
            pack_ip(self.address[0]),
            self.address[1],
            self.meta,
            self.versions,
        )

    def row(self) -> NodeRow:
        """Its row in a push/pull."""
        return NodeRow(
            self.name,
            pack_ip(self.address[0]),
            self.address[1],
            self.meta,
            self.incarnation,
            _WIRE_NUMBERS[self.state],
            self.versions,
        )


class EventKind(StrEnum):
    """What happened to a member."""

    JOINED = "joined"
    UPDATED = "updated"
    """Its metadata or address changed, or it is suspect now, or no more."""
    FAILED = "failed"
    LEFT = "left"
    CONFLICT = "conflict"
    """Another node claims its name from another address; the claim is refused."""
    ADDRESS_CONFLICT = "address-conflict"
    """A second name is said to be at the address of a node that is online."""
    NAME_LOST = "name-lost"
    """An elder node has this node's name; this one has fallen silent."""


CONFLICTS = frozenset({EventKind.CONFLICT, EventKind.ADDRESS_CONFLICT, EventKind.NAME_LOST})
"""Events that change nothing about the member that they name."""


@dataclass(frozen=True, slots=True)
class MemberEvent:
    """A change in the membership.

    Attributes:
        kind: what happened.
        member: as it is now; at a conflict, the claim.
        previous: as it was before, where it was known; at a conflict, who holds the name or the
            address.
    """

    kind: EventKind
    member: Member
    previous: Member | None = None


def row_state(row: NodeRow) -> NodeState:
    """The state that a push/pull row claims."""
    return _WIRE_STATES[row.state]


@lru_cache(maxsize=4096)
def pack_ip(text: str) -> bytes:
    """An IP literal as 4 or 16 bytes."""
    return ipaddress.ip_address(text.partition("%")[0]).packed


@lru_cache(maxsize=4096)
def unpack_ip(packed: bytes) -> str:
    """The inverse of :func:`pack_ip`; IPv4 addresses mapped into IPv6 become IPv4 again.

    Raises:
        ValueError: for another length than 4 or 16.
    """
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def is_everywhere(host: str) -> bool:
    """Whether an IP literal stands for all addresses of a host, and so for none to reach it at."""
    return ipaddress.ip_address(host.partition("%")[0]).is_unspecified


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """Words as metadata, in the encoding that Serf uses and shows.

    Raises:
        ValueError: when they take more than memberlist's 512 bytes.
    """
    encoded: bytes = bytes((_TAGS,)) + msgpack.packb(dict(sorted(tags.items())), use_bin_type=False)
    if len(encoded) > MAX_META:
        raise ValueError(f"node metadata takes {len(encoded)} bytes, {MAX_META} are allowed")
    return encoded


@lru_cache(maxsize=1024)
def decode_tags(meta: bytes) -> Mapping[str, str]:
    """The inverse of :func:`encode_tags`; what is not in this encoding gives no words."""
    if not meta or meta[0] != _TAGS:
        return MappingProxyType({})
    try:
        tags = msgpack.unpackb(meta[1:], raw=True, strict_map_key=False)
        return MappingProxyType({key.decode(): value.decode() for key, value in tags.items()})
    except (msgpack.UnpackException, ValueError, TypeError, AttributeError):
        return MappingProxyType({})
