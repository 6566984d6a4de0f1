"""What the protocol asks of its driver, and what its owner can plug into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from constellation_core.gossip.member import Address, Member, MemberEvent
from constellation_core.gossip.streams import StreamMessage

if TYPE_CHECKING:
    from constellation_core.gossip.protocol import Protocol as GossipProtocol


class SendDatagram(NamedTuple):
    """Send these bytes, already encrypted, by UDP."""

    address: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """Open a stream, send ``request`` and, if ``wants_reply``, hand back what is answered.

    Without ``wants_reply``, an empty :class:`~constellation_core.gossip.messages.UserMessage`
    stands for "it was sent". The outcome goes to ``Protocol.on_reply(token, ...)`` within
    ``timeout`` seconds.
    """

    token: int
    address: Address
    request: StreamMessage
    wants_reply: bool
    timeout: float


@dataclass(frozen=True, slots=True)
class ExchangeFailed:
    """Why an exchange gave no reply.

    Attributes:
        reason: for the operator.
        wrong_key: the peer answered, but with another key.
    """

    reason: str
    wrong_key: bool = False


Action = SendDatagram | Exchange


class Delegate(Protocol):
    """What rides on the gossip. Called by the protocol on its driver's thread; never blocks.

    Nothing here should raise. What does is not caught, so that it is seen; it costs the rest of
    the datagram or of the view, and the gossip goes on.
    """

    def attach(self, protocol: GossipProtocol) -> None:
        """The protocol starts; called once, before everything else."""

    def on_forgotten(self, member: Member) -> None:
        """A member that was dead or gone for long is not listed any more."""

    def on_event(self, event: MemberEvent) -> None:
        """A member joined, failed, left, changed or was in conflict."""

    def on_message(self, payload: bytes) -> None:
        """An application message from another node's broadcasts."""

    def has_broadcasts(self) -> bool:
        """Whether :meth:`broadcasts` would give anything; asked often."""

    def broadcasts(self, room: int, overhead: int, copies: int) -> Sequence[bytes]:
        """Messages for one datagram with ``room`` bytes, each costing ``overhead`` more.

        The datagram goes to so many members as ``copies`` says.
        """

    def on_request(self, payload: bytes) -> bytes | None:
        """A request over a stream; the answer, or ``None`` for no answer."""

    def local_state(self, *, join: bool) -> bytes:
        """What to add to a push/pull."""

    def merge_state(self, state: bytes, *, join: bool) -> None:
        """What the other side of a push/pull added."""


class NoDelegate:
    """Nothing rides on the gossip."""

    def attach(self, protocol: GossipProtocol) -> None:
        """Ignore it."""

    def on_forgotten(self, member: Member) -> None:
        """Ignore it."""

    def on_event(self, event: MemberEvent) -> None:
        """Ignore it."""

    def on_message(self, payload: bytes) -> None:
        """Ignore it."""

    def has_broadcasts(self) -> bool:
        """Never."""
        return False

    def broadcasts(self, room: int, overhead: int, copies: int) -> Sequence[bytes]:  # noqa: ARG002
        """None."""
        return ()

    def on_request(self, payload: bytes) -> bytes | None:  # noqa: ARG002
        """No answer."""
        return None

    def local_state(self, *, join: bool) -> bytes:  # noqa: ARG002
        """Nothing."""
        return b""

    def merge_state(self, state: bytes, *, join: bool) -> None:
        """Ignore it."""
