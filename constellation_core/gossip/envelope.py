"""What stands around messages on the wire: label, encryption, checksum and compression.

A datagram is, from the outside, ``[label] [encrypted] [checksum] [compressed] message``; a message
on a stream ``[label] [type, length, encrypted] [compressed] message``. The label names a cluster
in clear (memberlist 0.3 and later), so that clusters without encryption do not mix by accident;
with encryption it is authenticated too. Who has a label takes only what has the same.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.keyring import OVERHEAD, DecryptError, Keyring
from constellation_core.gossip.messages import DecodeError, MessageType
from constellation_core.gossip.packets import (
    MAX_DATAGRAM,
    MAX_STREAM,
    add_crc,
    compress,
    unwrap,
)

STREAM_HEADER = 5
"""Bytes before the ciphertext of an encrypted stream message: type and length."""
_COMPRESS_ABOVE = 64
"""Bytes; below, the dictionary costs more than it saves."""


@dataclass(frozen=True)
class Envelope:
    """Closes and opens datagrams and stream messages of one cluster.

    Attributes:
        keyring: encrypts; ``None`` for a cluster without encryption.
        label: the cluster's label, at most 255 bytes; empty for none.
        compressing: compress what gets smaller by it.
        view_limit: compress whole views of up to so many bytes in any case.
        checksums: add a CRC-32 to datagrams. All that is received is checked where it has one.
        encryption_version: 1, or 0 for peers of memberlist's protocol 1.
    """

    keyring: Keyring | None = None
    label: bytes = b""
    compressing: bool = False
    checksums: bool = False
    encryption_version: int = 1
    view_limit: int = 0

    @classmethod
    def of(cls, config: GossipConfig, keyring: Keyring | None) -> Envelope:
        """As the settings say.

        Raises:
            ValueError: for a label that is too long.
        """
        label = config.label.encode()
        if len(label) > 255:
            raise ValueError("a label has at most 255 bytes")
        version = 0 if config.protocol_versions[2] == 1 else 1
        return cls(
            keyring, label, config.compress, config.checksums, version, config.compress_views
        )

    @cached_property
    def header(self) -> bytes:
        """The label as it stands before everything else."""
        return bytes((MessageType.HAS_LABEL, len(self.label))) + self.label if self.label else b""

    @cached_property
    def overhead(self) -> int:
        """Bytes that this adds to a datagram, before compression."""
        encryption = OVERHEAD if self.keyring is not None else 0
        if self.keyring is not None and self.encryption_version == 0:
            encryption += 16
        return len(self.header) + encryption + (5 if self.checksums else 0)

    # --- datagrams ---------------------------------------------------------------------------

    def seal_datagram(self, message: bytes) -> bytes:
        """The datagram for ``message``."""
        message = self._compressed(message)
        if self.checksums:
            message = add_crc(message)
        return self.header + self._encrypted(message, self.label)

    def open_datagram(self, datagram: bytes) -> Iterable[bytes]:
        """The plain messages in a datagram; broken parts of a compound one are left out.

        Raises:
            DecryptError: when there is a keyring and no key of it fits.
            DecodeError: when the datagram as a whole is broken, or another cluster's.
        """
        if len(datagram) > MAX_DATAGRAM:
            raise DecodeError("a datagram that is too long")
        header = self.header
        if header or datagram[:1] == _LABELLED:
            if not header or not datagram.startswith(header):
                raise DecodeError("another cluster's label")
            datagram = datagram[len(header) :]
        if self.keyring is not None:
            datagram = self.keyring.decrypt(datagram, self.label)
        if datagram and datagram[0] == MessageType.HAS_CRC:
            crc = int.from_bytes(datagram[1:5], "big")
            if len(datagram) < 5 or zlib.crc32(datagram[5:]) != crc:
                raise DecodeError("the checksum is wrong")
            datagram = datagram[5:]
        return unwrap(datagram)

    # --- streams -----------------------------------------------------------------------------

    def seal_stream(self, message: bytes) -> bytes:
        """The bytes of a stream that carry ``message``, without :attr:`header`."""
        view = message[0] == MessageType.PUSH_PULL and len(message) <= self.view_limit
        message = self._compressed(message, always=view)
        if self.keyring is None:
            return message
        plain = len(message)
        if self.encryption_version == 0:
            plain += 16 - plain % 16
        header = bytes((MessageType.ENCRYPT,)) + struct.pack(">I", plain + OVERHEAD)
        return header + self._encrypted(message, header + self.label)

    @staticmethod
    def encrypted_length(header: bytes) -> int:
        """How many bytes follow the header of an encrypted stream message.

        Raises:
            DecryptError: when the stream is not encrypted.
            DecodeError: when the length is beyond the limit.
        """
        if header[0] != MessageType.ENCRYPT:
            raise DecryptError("a stream that is not encrypted")
        length = int.from_bytes(header[1:STREAM_HEADER], "big")
        if not OVERHEAD <= length <= MAX_STREAM:
            raise DecodeError(f"a stream message of {length} bytes")
        return length

    def open_stream(self, header: bytes, ciphertext: bytes) -> bytes:
        """The message of an encrypted stream.

        Raises:
            DecryptError: when no key fits.
        """
        if self.keyring is None:
            raise DecryptError("this cluster is not encrypted")
        return self.keyring.decrypt(ciphertext, header + self.label)

    # --- inside ------------------------------------------------------------------------------

    def _compressed(self, message: bytes, *, always: bool = False) -> bytes:
        if not (self.compressing or always) or len(message) < _COMPRESS_ABOVE:
            return message
        smaller = compress(message)
        return smaller if len(smaller) < len(message) else message

    def _encrypted(self, message: bytes, associated: bytes) -> bytes:
        if self.keyring is None:
            return message
        return self.keyring.encrypt(message, associated, version=self.encryption_version)


_LABELLED = bytes((MessageType.HAS_LABEL,))
