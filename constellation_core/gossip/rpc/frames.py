"""Frames: what a stream consists of once it is open.

``length (4 bytes) | kind (1) | body``, where kind and body are encrypted with AES-GCM and the
length is authenticated with them. The nonce counts the frames of a direction and does not
travel: a frame that is repeated, left out, changed, moved or of another stream does not open.
After :data:`RATCHET` frames a direction's key is replaced by one derived from it. Without
encryption the same frames go in clear, and only TCP protects them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from constellation_core.gossip.keyring import NONCE, TAG

LARGEST_BODY = 65_536
"""Bytes. Small, so that other frames get in between, and little is kept before it is proved."""
RATCHET = 1 << 20
_HEADER = 4


class FrameKind(IntEnum):
    """What a frame is."""

    BEGIN = 1
    """The client's first: it has the keys, and everything before it was fresh."""
    PART = 2
    """The beginning, or more, of a message that goes on."""
    MESSAGE = 3
    """A message, or its last part."""
    CREDIT = 4
    """So many more bytes may be sent to me."""
    ALIVE = 5
    """I am still here."""
    END = 6
    """No more messages from me; I still listen."""
    DONE = 7
    """No more from me, and I no longer listen: all is well."""
    FAIL = 8
    """The stream is over, and why."""


class FrameError(Exception):
    """Not the frame that was sent, or none at all."""


class FrameKey:
    """Encrypts or decrypts the frames of one direction, in their order.

    Args:
        key: 32 bytes; ``None`` for no encryption.
        ratchet: the key changes after so many frames.
    """

    def __init__(self, key: bytes | None, *, ratchet: int = RATCHET) -> None:
        self._key = key
        self._ratchet = ratchet
        self._cipher = AESGCM(key) if key is not None else None
        self._count = 0

    @property
    def overhead(self) -> int:
        """Bytes that encryption adds."""
        return TAG if self._cipher is not None else 0

    def encrypt(self, plain: bytes, header: bytes) -> bytes:
        """The next frame's content."""
        if self._cipher is None:
            return plain
        sealed = self._cipher.encrypt(self._nonce(), plain, header)
        self._advance()
        return sealed

    def decrypt(self, sealed: bytes, header: bytes) -> bytes:
        """The content of what must be the next frame.

        Raises:
            FrameError: when it is not.
        """
        if self._cipher is None:
            return sealed
        try:
            plain = self._cipher.decrypt(self._nonce(), sealed, header)
        except InvalidTag:
            raise FrameError("a frame does not open: it is not the one that was sent") from None
        self._advance()
        return plain

    def _nonce(self) -> bytes:
        return self._count.to_bytes(NONCE, "big")

    def _advance(self) -> None:
        self._count += 1
        if self._count == self._ratchet and self._key is not None:
            self._key = HKDFExpand(SHA256(), 32, b"constellation stream ratchet").derive(self._key)
            self._cipher = AESGCM(self._key)
            self._count = 0


class FrameWriter:
    """Makes the frames of one direction."""

    def __init__(self, key: FrameKey) -> None:
        self._key = key

    def frame(self, kind: FrameKind, body: bytes = b"") -> bytes:
        """The bytes of the next frame.

        Raises:
            ValueError: for a body above :data:`LARGEST_BODY`.
        """
        if len(body) > LARGEST_BODY:
            raise ValueError(f"a frame's body has at most {LARGEST_BODY} bytes")
        header = (1 + len(body) + self._key.overhead).to_bytes(_HEADER, "big")
        return header + self._key.encrypt(bytes((kind,)) + body, header)


class FrameReader:
    """Finds the frames of one direction in pieces of any size.

    Keeps at most one frame that is not complete.
    """

    def __init__(self, key: FrameKey) -> None:
        self._key = key
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[FrameKind, bytes]]:
        """The frames that ``data`` completes.

        Raises:
            FrameError: at the first that is none; what follows is lost.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        most = 1 + LARGEST_BODY + self._key.overhead
        try:
            while len(buffer) - start >= _HEADER:
                header = bytes(buffer[start : start + _HEADER])
                length = int.from_bytes(header, "big")
                if not self._key.overhead < length <= most:
                    raise FrameError(f"a frame of {length} bytes")
                end = start + _HEADER + length
                if len(buffer) < end:
                    break
                plain = self._key.decrypt(bytes(buffer[start + _HEADER : end]), header)
                start = end
                try:
                    kind = FrameKind(plain[0])
                except ValueError:
                    raise FrameError(f"a frame of kind {plain[0]}") from None
                yield kind, plain[1:]
        except FrameError:
            start = len(buffer)
            raise
        finally:
            del buffer[:start]
