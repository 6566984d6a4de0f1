"""One side of an open stream, as a state machine: bytes and time in, bytes out.

Messages of any size within the limits, in both directions, each of which can end by itself.
A receiver grants credit, as in HTTP/2 (RFC 9113, section 5.2): the sender may have so many bytes
on the way that were not consumed, and no more. So a receiver can always read, and sees that the
peer is there, gives up or has failed, however slow its application is; and what it has to keep
is bounded by what it granted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgpack

from constellation_core.gossip.messages import DecodeError, decode_map, encode_map
from constellation_core.gossip.rpc.failures import Failure, FailureKind
from constellation_core.gossip.rpc.frames import (
    LARGEST_BODY,
    FrameError,
    FrameKind,
    FrameReader,
    FrameWriter,
)

SLACK = 262_144
"""Bytes that may be on the way beyond one message of the largest size."""
_FRAME_COST = 64
"""Bytes that a frame counts for beside its body, so that empty ones are not for nothing."""
_LONGEST_TEXT = 1024
_SENT_KINDS = frozenset(kind for kind in FailureKind if kind < 100)


@dataclass(frozen=True, slots=True)
class Terms:
    """What both sides agreed on when the stream was opened.

    Attributes:
        takes: the largest message that this side accepts, in bytes.
        gives: the largest that the peer accepts.
        silence: seconds without a frame after which the peer is gone.
        keepalive: seconds without a frame of ours after which we send one.
        total: bytes of messages that this side accepts altogether; ``None`` for no limit.
    """

    takes: int
    gives: int
    silence: float
    keepalive: float
    total: int | None = None


def keepalive(silence: float) -> float:
    """How often to say something to one who gives up after ``silence`` seconds."""
    return silence / 3


def cost(length: int) -> int:
    """What a frame with a body of ``length`` bytes takes of the credit."""
    return length + _FRAME_COST


def window(largest_message: int) -> int:
    """The credit at the start for one who accepts messages of that size."""
    frames = max(1, -(-largest_message // LARGEST_BODY))
    return SLACK + largest_message + frames * _FRAME_COST


class Channel:
    """One side of a stream.

    Nothing here raises for what the peer sends: see :attr:`failure`. After every call there may
    be bytes to send, see :meth:`take_output`.

    Args:
        terms: what was agreed on.
        writer, reader: frames of both directions.
        now: seconds of a clock that never goes back.
        client: whether this side opened the stream.
    """

    def __init__(
        self, terms: Terms, writer: FrameWriter, reader: FrameReader, now: float, *, client: bool
    ) -> None:
        self.terms = terms
        self.failure: Failure | None = None
        self.begun = client
        self.ended = False
        """This side has sent its last message."""
        self.done = False
        """This side neither sends nor listens any more."""
        self.peer_ended = False
        self.peer_done = False
        self.eof = False
        self.bytes_in = 0
        """Of messages, so far."""
        self._client = client
        self._writer = writer
        self._reader = reader
        self._output: list[bytes] = []
        self._heard = now
        self._spoke = now
        self._credit = window(terms.gives)
        self._granted = window(terms.takes)
        self._owed = 0
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._parts_cost = 0
        self._messages: deque[tuple[bytes, int]] = deque()
        if client:
            self._emit(FrameKind.BEGIN, b"", now)

    # --- state -------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing more will be sent or received."""
        finished = (self.ended and self.peer_ended) or self.peer_done or self.done
        return finished or self.failure is not None

    @property
    def readable(self) -> bool:
        """Whether :meth:`pop` gives a message."""
        return bool(self._messages)

    @property
    def kept(self) -> int:
        """Bytes of messages, complete or not, that were received and not popped."""
        queued = sum(len(message) for message, _ in self._messages)
        return queued + self._parts_size + self._reader.buffered

    def may_send(self, length: int) -> bool:
        """Whether the credit is enough for a part of that length."""
        return cost(length) <= self._credit

    def next_deadline(self) -> float | None:
        """When :meth:`on_time` is to be called at the latest; ``None`` when it is over."""
        if self.over:
            return None
        return min(self._heard + self.terms.silence, self._spoke + self.terms.keepalive)

    def take_output(self) -> bytes:
        """What is to be sent; to be asked after every call."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # --- from the network --------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes came."""
        if self._deaf():
            return
        self._heard = now
        try:
            for kind, body in self._reader.feed(data):
                self._on_frame(kind, body, now)
                if self._deaf():
                    return
        except FrameError as error:
            self.fail(FailureKind.DAMAGED, str(error), now=now)

    def receive_eof(self) -> None:
        """The peer's side of the connection was closed, or the connection was lost."""
        self.eof = True
        if not self.over:
            self._break(FailureKind.GONE, "the connection was lost")

    def on_time(self, now: float) -> None:
        """Time has passed."""
        deadline = self.next_deadline()
        if deadline is None:
            return
        if now - deadline > self.terms.silence / 6:
            # It was this process that stood still. What the peer said meanwhile is yet to be read.
            self._heard = now
        if now - self._heard >= self.terms.silence:
            self._break(
                FailureKind.SILENT,
                f"nothing came for {self.terms.silence:g} s; it is paused or cut off",
            )
        elif now - self._spoke >= self.terms.keepalive:
            self._emit(FrameKind.ALIVE, b"", now)

    # --- from the application ----------------------------------------------------------------

    def pop(self, now: float) -> bytes:
        """The oldest message that has not been popped. Raises ``IndexError`` without one."""
        message, spent = self._messages.popleft()
        self._owed += spent
        if self._owed >= SLACK // 4 and not (self.peer_ended or self.failure or self.done):
            self._emit(FrameKind.CREDIT, self._owed.to_bytes(4, "big"), now)
            self._granted += self._owed
            self._owed = 0
        return message

    def send(self, part: bytes, *, last: bool, now: float) -> None:
        """Send a part of a message, for which :meth:`may_send` was true."""
        self._credit -= cost(len(part))
        self._emit(FrameKind.MESSAGE if last else FrameKind.PART, part, now)

    def end(self, now: float) -> None:
        """No more messages from this side."""
        if not (self.ended or self.over):
            self.ended = True
            self._emit(FrameKind.END, b"", now)

    def finish(self, now: float) -> None:
        """All is well, and nothing more is sent or listened to."""
        if not (self.done or self.peer_done or self.failure is not None):
            self.ended = self.done = True
            self._emit(FrameKind.DONE, b"", now)

    def fail(
        self, kind: FailureKind, reason: str, code: str = "", hint: str = "", *, now: float
    ) -> None:
        """End the stream, and tell the peer why."""
        if self.failure is not None or self.done or self.peer_done:
            return
        fields = {"Kind": int(kind), "Reason": _cut(reason), "Code": _cut(code), "Hint": _cut(hint)}
        self._emit(FrameKind.FAIL, encode_map(fields), now)
        self._break(kind, reason, code, hint)

    # --- inside ------------------------------------------------------------------------------

    def _deaf(self) -> bool:
        return self.failure is not None or self.peer_done

    def _emit(self, kind: FrameKind, body: bytes, now: float) -> None:
        self._spoke = now
        self._output.append(self._writer.frame(kind, body))

    def _break(self, kind: FailureKind, reason: str, code: str = "", hint: str = "") -> None:
        if self.failure is None:
            self.failure = Failure(kind, reason, code, hint)
            self._forget_parts()

    def _forget_parts(self) -> None:
        self._parts.clear()
        self._parts_size = self._parts_cost = 0

    def _violated(self, what: str, now: float) -> None:
        self.fail(FailureKind.DAMAGED, f"against the protocol: {what}", now=now)

    def _on_frame(self, kind: FrameKind, body: bytes, now: float) -> None:
        if not self.begun or kind is FrameKind.BEGIN:
            if self.begun or kind is not FrameKind.BEGIN:
                self._violated("BEGIN is the client's first frame, and only that", now)
            else:
                self.begun = True
            return
        match kind:
            case FrameKind.PART | FrameKind.MESSAGE:
                self._on_part(body, last=kind is FrameKind.MESSAGE, now=now)
            case FrameKind.CREDIT:
                self._on_credit(body, now)
            case FrameKind.END | FrameKind.DONE:
                if self._parts:
                    self._violated("an end in the middle of a message", now)
                    return
                self.peer_ended = True
                self.peer_done = kind is FrameKind.DONE
            case FrameKind.FAIL:
                self.failure = _read_failure(body)
                self._forget_parts()

    def _on_credit(self, body: bytes, now: float) -> None:
        self._credit += int.from_bytes(body, "big")
        if len(body) != 4 or self._credit > window(self.terms.gives):
            self._violated("more credit than there was", now)

    def _on_part(self, part: bytes, *, last: bool, now: float) -> None:
        if self.peer_ended:
            self._violated("a message after the end", now)
            return
        spent = cost(len(part))
        self._granted -= spent
        self.bytes_in += len(part)
        if self._granted < 0 or (not part and not last):
            self._violated("more than there was credit for", now)
        elif self._parts_size + len(part) > self.terms.takes:
            self.fail(
                FailureKind.LIMIT,
                f"a message of more than {self.terms.takes} bytes, the most that is taken",
                now=now,
            )
        elif self.terms.total is not None and self.bytes_in > self.terms.total:
            self.fail(
                FailureKind.LIMIT,
                f"more than {self.terms.total} bytes in one stream, the most that is taken",
                now=now,
            )
        elif not self.done:
            self._parts.append(part)
            self._parts_size += len(part)
            self._parts_cost += spent
            if last:
                self._messages.append((b"".join(self._parts), self._parts_cost))
                self._forget_parts()


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:_LONGEST_TEXT].decode(errors="ignore")


def _read_failure(body: bytes) -> Failure:
    try:
        fields = decode_map("stream failure", body)
        number = fields.number(b"Kind", most=255)
        kind = FailureKind(number) if number in _SENT_KINDS else FailureKind.FAILED
        code = fields.text(b"Code", most=_LONGEST_TEXT)
        reason = fields.text(b"Reason", most=_LONGEST_TEXT)
        hint = fields.text(b"Hint", most=_LONGEST_TEXT)
    except (DecodeError, msgpack.UnpackException):
        return Failure(FailureKind.FAILED, "it failed, and does not say how", by_peer=True)
    return Failure(kind, reason, code, hint, by_peer=True)
