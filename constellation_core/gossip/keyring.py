"""The keys that encrypt gossip: AES-GCM in memberlist's framing.

An encrypted message is ``version (1 byte) | nonce (12) | ciphertext | tag (16)``. Version 0
pads the plaintext to 16 bytes (PKCS #7), version 1 does not. Everything is encrypted with the
primary key; every key of the ring is tried to decrypt.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12
TAG = 16
OVERHEAD = 1 + NONCE + TAG
"""Bytes that encryption adds to a message."""

_KEY_LENGTHS = (16, 24, 32)


class DecryptError(Exception):
    """No key of the ring opens the message: it is damaged, or another cluster's."""


class Keyring:
    """One primary key and others that are accepted too.

    Args:
        keys: of 16, 24 or 32 bytes each; the first is the primary one.
        random: source of nonces; for tests.

    Raises:
        ValueError: without a key, or for a key of another length.
    """

    def __init__(
        self, keys: Iterable[bytes], *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._keys = list(dict.fromkeys(keys))
        self._random = random
        if not self._keys:
            raise ValueError("a keyring needs a key")
        for key in self._keys:
            if len(key) not in _KEY_LENGTHS:
                raise ValueError(f"a gossip key has 16, 24 or 32 bytes, not {len(key)}")
        self._ciphers = [AESGCM(key) for key in self._keys]

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)} keys, primary {self.fingerprint}>"

    @property
    def fingerprint(self) -> str:
        """A short name of the primary key that tells nothing about it."""
        return hashlib.blake2b(self._keys[0], digest_size=4, person=b"constellation-id").hexdigest()

    def encrypt(self, plaintext: bytes, associated: bytes = b"", *, version: int = 1) -> bytes:
        """Encrypt with the primary key, in version 1, or 0 for memberlist's protocol 1."""
        nonce = self._random(NONCE)
        if version == 0:
            length = 16 - len(plaintext) % 16
            plaintext += bytes((length,)) * length
        ciphertext = self._ciphers[0].encrypt(nonce, plaintext, associated or None)
        return bytes((version,)) + nonce + ciphertext

    def decrypt(self, message: bytes, associated: bytes = b"") -> bytes:
        """The plaintext of ``message``.

        Raises:
            DecryptError: when no key fits or the framing is not memberlist's.
        """
        if len(message) < OVERHEAD or message[0] > 1:
            raise DecryptError("not an encrypted message")
        nonce, ciphertext = message[1 : 1 + NONCE], message[1 + NONCE :]
        for cipher in self._ciphers:
            try:
                plaintext = cipher.decrypt(nonce, ciphertext, associated or None)
            except InvalidTag:
                continue
            return _unpad(plaintext) if message[0] == 0 else plaintext
        raise DecryptError("no key of this node opens the message")


def _unpad(padded: bytes) -> bytes:
    length = padded[-1] if padded else 0
    if not 1 <= length <= 16 or padded[-length:] != bytes((length,)) * length:
        raise DecryptError("bad padding")
    return padded[:-length]
