"""The keys that encrypt gossip: AES-GCM in memberlist's framing.

An encrypted message is ``version (1 byte) | nonce (12) | ciphertext | tag (16)``. Version 0
pads the plaintext to 16 bytes (PKCS #7), version 1 does not. Everything is encrypted with the
primary key; every key of the ring is tried to decrypt.

A cluster changes its key in three steps, each on all nodes before the next: :meth:`Keyring.add`
the new key, :meth:`Keyring.use` it, :meth:`Keyring.remove` the old one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE = 12
TAG = 16
OVERHEAD = 1 + NONCE + TAG
"""Bytes that encryption adds to a message."""

_KEY_LENGTHS = (16, 24, 32)


class DecryptError(Exception):
    """No key of the ring opens the message: it is damaged, or another cluster's."""


class KeyringError(Exception):
    """The change of the keyring is refused; the text says why, and names no key."""


class Keyring:
    """One primary key and others that are accepted too. May be changed at any time.

    Args:
        keys: of 16, 24 or 32 bytes each; the first is the primary one.
        random: source of nonces; for tests.

    Raises:
        ValueError: without a key, or for a key of another length.
    """

    def __init__(
        self, keys: Iterable[bytes], *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._random = random
        self._ciphers: dict[bytes, AESGCM] = {key: _cipher(key) for key in keys}
        if not self._ciphers:
            raise ValueError("a keyring needs a key")

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._ciphers)} keys, primary {self.fingerprint}>"

    @property
    def fingerprint(self) -> str:
        """A short name of the primary key that tells nothing about it."""
        return _fingerprint(self.keys[0])

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys, the primary one first."""
        return tuple(self._ciphers)

    def add(self, key: bytes) -> None:
        """Accept ``key`` too, from now on; nothing happens when it is on the ring.

        Raises:
            ValueError: for a key that has not 16, 24 or 32 bytes.
        """
        # A new dictionary, here and below: large streams are opened in threads meanwhile.
        self._ciphers = {**self._ciphers, key: self._ciphers.get(key) or _cipher(key)}

    def use(self, key: bytes) -> None:
        """Encrypt with ``key`` from now on.

        Raises:
            KeyringError: when it is not on the ring.
        """
        if key not in self._ciphers:
            raise KeyringError("the key is not on the ring")
        self._ciphers = {key: self._ciphers[key], **self._ciphers}

    def remove(self, key: bytes) -> None:
        """Accept ``key`` no more; nothing happens when it is not on the ring.

        Raises:
            KeyringError: when it is the primary one.
        """
        if key == self.keys[0]:
            raise KeyringError("the key is in use")
        self._ciphers = {k: cipher for k, cipher in self._ciphers.items() if k != key}

    def __contains__(self, fingerprint: object) -> bool:
        """Whether a key of this fingerprint is in the ring."""
        return any(_fingerprint(key) == fingerprint for key in self.keys)

    def derive(self, fingerprint: str, *, salt: bytes, info: bytes) -> bytes | None:
        """32 bytes that follow from the key of that fingerprint (HKDF, RFC 5869).

        Returns:
            ``None`` when there is no such key.
        """
        for key in self.keys:
            if _fingerprint(key) == fingerprint:
                return HKDF(SHA256(), 32, salt=salt, info=info).derive(key)
        return None

    def encrypt(self, plaintext: bytes, associated: bytes = b"", *, version: int = 1) -> bytes:
        """Encrypt with the primary key, in version 1, or 0 for memberlist's protocol 1."""
        nonce = self._random(NONCE)
        if version == 0:
            length = 16 - len(plaintext) % 16
            plaintext += bytes((length,)) * length
        cipher = next(iter(self._ciphers.values()))
        ciphertext = cipher.encrypt(nonce, plaintext, associated or None)
        return bytes((version,)) + nonce + ciphertext

    def decrypt(self, message: bytes, associated: bytes = b"") -> bytes:
        """The plaintext of ``message``.

        Raises:
            DecryptError: when no key fits or the framing is not memberlist's.
        """
        if len(message) < OVERHEAD or message[0] > 1:
            raise DecryptError("not an encrypted message")
        nonce, ciphertext = message[1 : 1 + NONCE], message[1 + NONCE :]
        for cipher in self._ciphers.values():
            try:
                plaintext = cipher.decrypt(nonce, ciphertext, associated or None)
            except InvalidTag:
                continue
            return _unpad(plaintext) if message[0] == 0 else plaintext
        raise DecryptError("no key of this node opens the message")


def _cipher(key: bytes) -> AESGCM:
    if len(key) not in _KEY_LENGTHS:
        raise ValueError(f"a gossip key has 16, 24 or 32 bytes, not {len(key)}")
    return AESGCM(key)


def _fingerprint(key: bytes) -> str:
    return hashlib.blake2b(key, digest_size=4, person=b"constellation-id").hexdigest()


def _unpad(padded: bytes) -> bytes:
    length = padded[-1] if padded else 0
    if not 1 <= length <= 16 or padded[-length:] != bytes((length,)) * length:
        raise DecryptError("bad padding")
    return padded[:-length]
