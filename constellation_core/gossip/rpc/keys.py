"""Keys of one stream: from the cluster's key and a fresh Diffie-Hellman exchange.

Each direction has its own key, so that nothing can be sent back to its sender, and each stream
has its own, so that nothing of one can be put into another, now or later. What a stream carried
stays closed to one who learns the cluster's key afterwards, and to other members who listen.
The cluster's key authenticates both sides, as in the pattern NNpsk0 of the Noise framework;
X25519 is RFC 7748, HKDF RFC 5869.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from constellation_core.gossip.keyring import Keyring
from constellation_core.gossip.rpc.opening import PUBLIC

_INFO = b"constellation stream v1"


class KeyExchangeError(Exception):
    """No keys come out of what the peer sent."""


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """AES-256 keys of a stream, by who sends; ``None`` on a cluster without encryption."""

    of_client: bytes | None
    of_server: bytes | None


class KeyExchange:
    """This side's half of the exchange; to be used once.

    Args:
        keyring: of the cluster; ``None`` without encryption.
        label: of the cluster.
    """

    def __init__(self, keyring: Keyring | None, label: bytes) -> None:
        self._keyring = keyring
        self._label = label
        self._private = X25519PrivateKey.generate() if keyring is not None else None
        if self._private is not None:
            self.public = self._private.public_key().public_bytes_raw()
        else:
            self.public = os.urandom(PUBLIC)

    def as_client(self, fingerprint: str, server_public: bytes) -> StreamKeys:
        """The keys, on the side that asked. Raises as :meth:`as_server`."""
        return self._keys(fingerprint, self.public + server_public, server_public)

    def as_server(self, fingerprint: str, client_public: bytes) -> StreamKeys:
        """The keys, on the side that answered.

        Raises:
            KeyExchangeError: when no key of the ring has the fingerprint, or the peer's public
                key is none.
        """
        return self._keys(fingerprint, client_public + self.public, client_public)

    def _keys(self, fingerprint: str, publics: bytes, theirs: bytes) -> StreamKeys:
        if self._keyring is None or self._private is None:
            return StreamKeys(None, None)
        ring = self._keyring.derive(fingerprint, salt=publics, info=_INFO + self._label)
        if ring is None:
            raise KeyExchangeError("the cluster key of the stream is not in the ring")
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError:
            raise KeyExchangeError("not a public key") from None

        def key(sender: bytes) -> bytes:
            return HKDF(SHA256(), 32, salt=ring, info=_INFO + b" " + sender).derive(shared)

        return StreamKeys(key(b"client"), key(b"server"))
