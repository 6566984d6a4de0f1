"""How a stream can fail: what is told to the other side, and what is raised on this one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from constellation_core.gossip.member import Address


class FailureKind(IntEnum):
    """Why a stream ended early. The numbers travel; those above 100 are only ever local."""

    CANCELLED = 1
    """The side that opened it wants no more of it."""
    TIMEOUT = 2
    """Its time is over."""
    LIMIT = 3
    """A message, or all together, was larger than allowed."""
    DAMAGED = 4
    """What arrived is not what was sent, or not what may stand here."""
    STOPPING = 5
    """The peer shuts down, or no longer has the key that the stream was opened with."""
    BUSY = 6
    """The peer has as many streams as it wants."""
    FAILED = 7
    """The handler raised."""
    REJECTED = 8
    """The handler said no, with a reason."""
    GONE = 101
    """The connection ended without a goodbye."""
    SILENT = 102
    """The connection stands, but nothing comes any more."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a stream that was not planned.

    Attributes:
        kind: see :class:`FailureKind`.
        reason: for people; holds no secret.
        code: of a handler that said no, for machines; else empty.
        hint: what to do about it; may be empty.
        by_peer: whether the peer said so.
    """

    kind: FailureKind
    reason: str
    code: str = ""
    hint: str = ""
    by_peer: bool = False


class StreamError(Exception):
    """A stream could not be opened, or did not end well.

    The text says what, with whom, why, and what to do.

    Attributes:
        peer: name of the other node.
        service: what was asked of it.
        reason: why.
        hint: what to do about it; may be empty.
        code: for machines; the handler's own word for :class:`RemoteRejectionError`.
    """

    def __init__(
        self, peer: str, address: Address, service: str, reason: str, hint: str = "", code: str = ""
    ) -> None:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        where = f"{peer or 'an unknown node'} ({host}:{address[1]})"
        super().__init__(f"{service} on {where}: {reason}{'; ' + hint if hint else ''}")
        self.peer = peer
        self.service = service
        self.reason = reason
        self.hint = hint
        self.code = code


class PeerUnreachableError(StreamError):
    """No connection to the peer comes about."""


class PeerGoneError(StreamError):
    """The connection to the peer was lost, or nothing comes from it any more, or it stops."""


class StreamRefusedError(StreamError):
    """The peer answers, but gives no such stream.

    ``code`` is ``unknown-service``, ``version``, ``busy``, ``wrong-node``, ``key`` (another
    cluster key, or only one side encrypts) or ``no-streams`` (it does not speak streams).
    """


class StreamTimeoutError(StreamError, TimeoutError):
    """The time that was given is over."""


class StreamLimitError(StreamError):
    """A message, or all of a stream's together, are larger than the receiver takes."""


class StreamDamagedError(StreamError):
    """Frames were changed, repeated, left out or reordered on the way; nothing of them was used."""


class StreamClosedError(StreamError):
    """Something is to be sent on a direction that has ended."""


class RemoteFailureError(StreamError):
    """The peer's handler failed; the peer's log says how."""


class RemoteRejectionError(StreamError):
    """The peer's handler said no; ``code``, ``reason`` and ``hint`` are its words."""


class RejectionError(Exception):
    """Raised by a handler to say no: the caller gets a :class:`RemoteRejectionError`.

    Args:
        code: for machines.
        reason: for people; travels as it is, so it must hold no secret.
        hint: what to do about it.
    """

    def __init__(self, code: str, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.hint = hint


_ERRORS: dict[FailureKind, type[StreamError]] = {
    FailureKind.CANCELLED: PeerGoneError,
    FailureKind.TIMEOUT: StreamTimeoutError,
    FailureKind.LIMIT: StreamLimitError,
    FailureKind.DAMAGED: StreamDamagedError,
    FailureKind.STOPPING: PeerGoneError,
    FailureKind.BUSY: StreamRefusedError,
    FailureKind.FAILED: RemoteFailureError,
    FailureKind.REJECTED: RemoteRejectionError,
    FailureKind.GONE: PeerGoneError,
    FailureKind.SILENT: PeerGoneError,
}


def to_error(failure: Failure, peer: str, address: Address, service: str) -> StreamError:
    """The exception that tells the application of ``failure``."""
    code = "busy" if failure.kind is FailureKind.BUSY else failure.code
    return _ERRORS[failure.kind](peer, address, service, failure.reason, failure.hint, code)
