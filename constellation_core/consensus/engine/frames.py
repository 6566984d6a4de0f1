"""Frames of an established connection: length, then AES-256-GCM.

The nonce is a counter that is not sent: a frame that is replayed, dropped, reordered or taken
from another connection or direction does not decrypt, and ends the connection. The length is
authenticated too. An empty frame says that the sender is alive.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_LENGTH = struct.Struct("<I")
_TAG = 16
MAX_FRAME = 1024 * 1024
"""Bytes of plaintext."""


class FrameError(Exception):
    """The connection cannot go on; the text says why."""


class Sealer:
    """Makes frames of one direction."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._count = 0

    def seal(self, plaintext: bytes) -> bytes:
        """The next frame.

        Raises:
            FrameError: it is too large.
        """
        if len(plaintext) > MAX_FRAME:
            raise FrameError(f"a frame of {len(plaintext)} bytes was to be sent")
        length = _LENGTH.pack(len(plaintext) + _TAG)
        nonce = self._count.to_bytes(12, "little")
        self._count += 1
        return length + self._cipher.encrypt(nonce, plaintext, length)


class Opener:
    """Takes what arrives in one direction, in pieces of any size."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._count = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take a piece; gives the frames that it completes.

        What is buffered is less than one frame.

        Raises:
            FrameError: a frame is too large or not authentic.
        """
        self._buffer += data
        frames = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not _TAG <= length <= MAX_FRAME + _TAG:
                raise FrameError(f"it announces a frame of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            frames.append(self._open(bytes(self._buffer[:end])))
            del self._buffer[:end]
        return frames

    def _open(self, frame: bytes) -> bytes:
        nonce = self._count.to_bytes(12, "little")
        self._count += 1
        try:
            return self._cipher.decrypt(nonce, frame[_LENGTH.size :], frame[: _LENGTH.size])
        except InvalidTag:
            raise FrameError("a frame is not authentic, or was replayed") from None
