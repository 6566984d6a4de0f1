"""What a node needs, beyond memberlist, to live in a Serf cluster as one of its members.

Serf is an application on memberlist: its messages are memberlist's user messages, and its versions
memberlist's delegate versions. Without this module a node is listed by Serf and probed like
any other, but it shows as failed when it has left, and Serf's key commands wait for it in vain::

    serf = SerfDelegate("node-a", keyring=keyring)
    config = GossipConfig("node-a", delegate_versions=SERF_VERSIONS)
    gossip = Gossip(config, bind=("10.0.0.1", 7946), keyring=keyring, delegate=serf)
    ...
    serf.announce_leave()
    await gossip.leave()

It passes on what Serf nodes broadcast, sends and receives user events, announces its leave, and
answers the queries behind ``serf keys``. Other queries it passes on without an answer; relayed
answers, coordinates and the history of events are left out.

Source: hashicorp/serf 0.9, ``messages.go``, ``delegate.go``, ``internal_query.go``.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from constellation_core.gossip.broadcasts import BroadcastQueue, retransmit_limit
from constellation_core.gossip.keyring import Keyring, KeyringError
from constellation_core.gossip.member import Address, EventKind, Member, MemberEvent, unpack_ip
from constellation_core.gossip.messages import (
    DecodeError,
    Fields,
    UserMessage,
    decode_map,
    encode_map,
)
from constellation_core.gossip.protocol import Protocol

SERF_VERSIONS = (2, 5, 5)
"""For :attr:`GossipConfig.delegate_versions`: what Serf 0.9 understands, and speaks."""

_LIST_KEYS = "_serf_list-keys"
_KEY_QUERIES: Mapping[str, Callable[[Keyring, bytes], None]] = {
    _LIST_KEYS: lambda _ring, _key: None,
    "_serf_install-key": Keyring.add,
    "_serf_use-key": Keyring.use,
    "_serf_remove-key": Keyring.remove,
}
_FLAG_ACK = 1
_FLAG_NO_BROADCAST = 2
_LATEST = 2**62
"""Lamport times beyond are refused: one of them would leave no later time to anybody."""
_MOST_REMEMBERED = 4096
_MOST_QUEUED = 1024
_RETRANSMIT = 4


class SerfMessage(IntEnum):
    """The first byte of every message of Serf."""

    LEAVE = 0
    JOIN = 1
    PUSH_PULL = 2
    USER_EVENT = 3
    QUERY = 4
    QUERY_RESPONSE = 5
    CONFLICT_RESPONSE = 6
    KEY_REQUEST = 7
    KEY_RESPONSE = 8
    RELAY = 9


class LamportClock:
    """A logical clock: later than everything that was seen."""

    def __init__(self) -> None:
        self.time = 1

    def witness(self, seen: int) -> None:
        """Be later than ``seen``."""
        self.time = max(self.time, seen + 1)

    def next(self) -> int:
        """The time of an event of our own."""
        self.time += 1
        return self.time - 1


@dataclass(frozen=True, slots=True)
class UserEvent:
    """An event of ``serf event``: a name, bytes, and whether equal names may be merged."""

    name: str
    payload: bytes
    coalesce: bool = False


def pack(kind: SerfMessage, fields: dict[str, Any]) -> bytes:
    """A message of Serf as the payload of a user message."""
    return bytes((kind,)) + encode_map(fields)


class SerfDelegate:
    """Rides on the gossip as Serf does.

    Args:
        name: of this node, as in its settings.
        keyring: the one that the gossip encrypts with; ``serf keys`` changes it.
        on_user_event: called once for each user event.
        on_member_event: called for each event of the membership.
        on_keys_changed: called after ``serf keys`` has changed the ring, to keep it on disk.
    """

    def __init__(
        self,
        name: str,
        *,
        keyring: Keyring | None = None,
        on_user_event: Callable[[UserEvent], None] = lambda _: None,
        on_member_event: Callable[[MemberEvent], None] = lambda _: None,
        on_keys_changed: Callable[[Keyring], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._keyring = keyring
        self._on_user_event = on_user_event
        self._on_member_event = on_member_event
        self._on_keys_changed = on_keys_changed
        self._protocol: Protocol | None = None
        self._queue = BroadcastQueue()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._left: dict[str, int] = {}
        self._handlers: dict[int, Callable[[bytes], None]] = {
            SerfMessage.LEAVE: lambda message: self._on_intent(message, leaves=True),
            SerfMessage.JOIN: lambda message: self._on_intent(message, leaves=False),
            SerfMessage.USER_EVENT: self._on_user_event_message,
            SerfMessage.QUERY: self._on_query,
        }
        self.members = LamportClock()
        self.events = LamportClock()
        self.queries = LamportClock()

    # --- for the application -----------------------------------------------------------------

    def announce_leave(self) -> None:
        """Tell that this node is about to leave, so that Serf takes its end for a departure."""
        time = self.members.next()
        self._left[self._name] = time
        message = pack(SerfMessage.LEAVE, {"LTime": time, "Node": self._name, "Prune": False})
        self._is_news(message)
        self._broadcast(message)

    def encode_event(self, event: UserEvent) -> bytes:
        """The message for a new user event."""
        return pack(
            SerfMessage.USER_EVENT,
            {
                "LTime": self.events.next(),
                "Name": event.name,
                "Payload": event.payload or None,
                "CC": event.coalesce,
            },
        )

    def send_event(self, event: UserEvent) -> None:
        """Broadcast a user event; this node does not hear it itself."""
        message = self.encode_event(event)
        self._is_news(message)
        self._broadcast(message)

    # --- Delegate ----------------------------------------------------------------------------

    def attach(self, protocol: Protocol) -> None:
        """The protocol starts."""
        self._protocol = protocol

    def on_forgotten(self, member: Member) -> None:
        """A member is not listed any more."""
        self._left.pop(member.name, None)

    def on_event(self, event: MemberEvent) -> None:
        """The membership changed."""
        if event.kind is EventKind.JOINED:
            self._left.pop(event.member.name, None)
        self._on_member_event(event)

    def has_broadcasts(self) -> bool:
        """Whether something waits to be sent."""
        return len(self._queue) > 0

    def broadcasts(self, room: int, overhead: int, copies: int) -> Sequence[bytes]:
        """What Serf nodes said, sent on as often as membership is."""
        nodes = self._protocol.table.online_count() if self._protocol is not None else 1
        return self._queue.take(room, overhead, retransmit_limit(_RETRANSMIT, nodes), copies)

    def on_request(self, payload: bytes) -> bytes | None:
        """A message over TCP; Serf makes no difference."""
        self.on_message(payload)
        return None

    def on_message(self, payload: bytes) -> None:
        """A message of Serf; what is none is counted as malformed."""
        handler = self._handlers.get(payload[0]) if payload else None
        if handler is not None:
            self._guarded(handler, payload)

    def local_state(self, *, join: bool) -> bytes:  # noqa: ARG002
        """The clocks, and who has left, for a push/pull."""
        return pack(
            SerfMessage.PUSH_PULL,
            {
                "LTime": self.members.time,
                "StatusLTimes": dict(sorted(self._left.items())),
                "LeftMembers": sorted(self._left),
                "EventLTime": self.events.time,
                "Events": None,
                "QueryLTime": self.queries.time,
            },
        )

    def merge_state(self, state: bytes, *, join: bool) -> None:  # noqa: ARG002
        """The other side's clocks; its members come with the membership itself."""
        self._guarded(self._on_state, state)

    # --- inside ------------------------------------------------------------------------------

    def _guarded(self, handler: Callable[[bytes], None], message: bytes) -> None:
        try:
            handler(message)
        except DecodeError:
            if self._protocol is not None:
                self._protocol.stats.malformed += 1

    def _on_state(self, state: bytes) -> None:
        if state[:1] != bytes((SerfMessage.PUSH_PULL,)):
            raise DecodeError("serf: not the state of a push/pull")
        fields = decode_map("serf push/pull", state[1:])
        clocks = (
            (b"LTime", self.members),
            (b"EventLTime", self.events),
            (b"QueryLTime", self.queries),
        )
        for name, clock in clocks:
            # What is told is the next time that the other one would use.
            clock.witness(_time(fields, name) - 1)

    def _on_user_event_message(self, payload: bytes) -> None:
        fields = decode_map("serf event", payload[1:])
        self.events.witness(_time(fields))
        event = UserEvent(fields.text(b"Name"), fields.raw(b"Payload"), fields.flag(b"CC"))
        if self._is_news(payload):
            self._broadcast(payload)
            self._on_user_event(event)

    def _on_intent(self, payload: bytes, *, leaves: bool) -> None:
        fields = decode_map("serf intent", payload[1:])
        time, node = _time(fields), fields.text(b"Node")
        self.members.witness(time)
        if self._protocol is None or not self._is_news(payload):
            return
        table = self._protocol.table
        if leaves and node == self._name and not table.leaving:
            # Said of an earlier life of ours, or by who forces us out: say that we are here.
            self._broadcast(
                pack(SerfMessage.JOIN, {"LTime": self.members.next(), "Node": self._name})
            )
            return
        if leaves and table.get(node) is not None:
            self._left[node] = time
        self._broadcast(payload)

    def _on_query(self, payload: bytes) -> None:
        fields = decode_map("serf query", payload[1:])
        self.queries.witness(_time(fields))
        flags, asker = fields.number(b"Flags"), _asker(fields)
        if not self._is_news(payload):
            return
        if not flags & _FLAG_NO_BROADCAST:
            self._broadcast(payload)
        answer = self._keys_query(fields.text(b"Name"), fields.raw(b"Payload"))
        if answer is None:
            return
        if flags & _FLAG_ACK:
            self._respond(asker, fields, _FLAG_ACK, b"")
        self._respond(asker, fields, 0, pack(SerfMessage.KEY_RESPONSE, answer))

    def _keys_query(self, name: str, payload: bytes) -> dict[str, Any] | None:
        if name not in _KEY_QUERIES:
            return None
        answer: dict[str, Any] = {"Result": False, "Message": "", "Keys": None, "PrimaryKey": ""}
        ring = self._keyring
        if ring is None:
            return {**answer, "Message": "this cluster is not encrypted"}
        if name == _LIST_KEYS:
            keys = [base64.b64encode(key).decode() for key in ring.keys]
            return {**answer, "Result": True, "Keys": keys, "PrimaryKey": keys[0]}
        if not payload or payload[0] != SerfMessage.KEY_REQUEST:
            return {**answer, "Message": "not a request about keys"}
        key = decode_map("serf key", payload[1:]).raw(b"Key", most=32)
        try:
            _KEY_QUERIES[name](ring, key)
        except (KeyringError, ValueError) as error:
            return {**answer, "Message": str(error)}
        self._on_keys_changed(ring)
        return {**answer, "Result": True}

    def _respond(self, asker: Address, query: Fields, flags: int, payload: bytes) -> None:
        response = {
            "LTime": _time(query),
            "ID": query.number(b"ID"),
            "From": self._name,
            "Flags": flags,
            "Payload": payload or None,
        }
        if self._protocol is not None:
            self._protocol.send(asker, UserMessage(pack(SerfMessage.QUERY_RESPONSE, response)))

    def _is_news(self, message: bytes) -> bool:
        """Whether this came for the first time; it is remembered for a while."""
        if message in self._seen:
            return False
        self._seen[message] = None
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def _broadcast(self, message: bytes) -> None:
        if len(self._queue) < _MOST_QUEUED:
            self._queue.put(message.hex(), message)


def _asker(query: Fields) -> Address:
    try:
        return unpack_ip(query.raw(b"Addr", most=16)), query.number(b"Port", most=65_535)
    except ValueError:
        raise DecodeError("serf query: not an address") from None


def _time(fields: Fields, name: bytes = b"LTime") -> int:
    return fields.number(name, most=_LATEST)
