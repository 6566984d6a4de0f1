"""Limits of streams, and what is known of one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from constellation_core.gossip.member import Address

LARGEST_MESSAGE = 1 << 20
"""Bytes of a message when nothing else is said."""
_LARGEST_OF_ALL = 1 << 28


def check_size(message: int) -> int:
    """``message``, as a limit for the bytes of one.

    Raises:
        ValueError: when it cannot be one.
    """
    if not 0 <= message <= _LARGEST_OF_ALL:
        raise ValueError(f"a message may have up to {_LARGEST_OF_ALL} bytes, not {message}")
    return message


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What a service takes from those who call it.

    Attributes:
        message: bytes of the largest message.
        total: bytes of all messages of one stream together; ``None`` for no limit.
        duration: seconds that a stream may last; ``None`` for as long as the caller likes.
        concurrent: streams of this service at a time, over all peers.
    """

    message: int = LARGEST_MESSAGE
    total: int | None = None
    duration: float | None = None
    concurrent: int = 64

    def __post_init__(self) -> None:
        check_size(self.message)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Settings of one node's streams. Times are in seconds.

    Attributes:
        most: incoming streams at a time.
        most_per_address: of these, from one IP address.
        connect_timeout: for a connection, and then again for the answer.
        silence: a peer from which nothing comes for so long is gone. Peers learn it, and send
            something three times as often.
        linger: how long a stream that is over may take to say so.
    """

    most: int = 256
    most_per_address: int = 64
    connect_timeout: float = 5.0
    silence: float = 30.0
    linger: float = 3.0


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of a stream.

    Attributes:
        name: of the node. For an incoming stream it is what the peer says: that it belongs to
            the cluster is proved, which node it is is not.
        address: for an incoming stream where the connection comes from.
    """

    name: str
    address: Address


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What both sides know of a stream.

    Attributes:
        peer: the other side.
        service: its name.
        version: of the service, the highest that both know.
        deadline: when it ends at the latest, in seconds of the event loop's clock.
    """

    peer: Peer
    service: str
    version: int
    deadline: float | None = None


@dataclass(slots=True)
class StreamStats:
    """What was counted since the start.

    Attributes:
        incoming, outgoing: streams that are open now.
        accepted, opened: streams so far, incoming and outgoing.
        refused: incoming ones that were not accepted, by reason.
        failed: incoming ones that did not end well, by kind of failure.
        bytes_in, bytes_out: of frames.
    """

    incoming: int = 0
    outgoing: int = 0
    accepted: int = 0
    opened: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0

    def document(self) -> dict[str, int | dict[str, int]]:
        """All of it, ready for JSON."""
        return {
            "incoming": self.incoming,
            "outgoing": self.outgoing,
            "accepted": self.accepted,
            "opened": self.opened,
            "refused": dict(self.refused),
            "failed": dict(self.failed),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
