"""Who is at the other end: three messages of fixed length, before anything else is read.

A pre-shared-key handshake with ephemeral X25519, in the manner of Noise's ``NNpsk0`` (Perrin,
"The Noise Protocol Framework"), without its framing::

    dialler  -> HELLO    magic, version, cluster, key id, own id, wanted id, ephemeral, HMAC
    listener -> ANSWER   own id, ephemeral, HMAC over both messages
    dialler  -> CONFIRM  HMAC over both messages

The HMAC of HELLO uses the group key, so that nobody without it causes more work than one HMAC.
The others, and the keys of the two directions, come from group key *and* Diffie-Hellman, with
the hash of both messages as salt: what was recorded cannot be replayed, since the other side's
ephemeral key is new, nor be read later with the group key alone.

No input or output here: :class:`Dialler` and :class:`Listener` take and give bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from constellation_core.consensus.engine.keys import KEY_ID, GroupKey, derive

_MAGIC = b"CNSTRAFT"
_VERSION = 1
_HELLO = struct.Struct(f"<8sB16s{KEY_ID}s16s16s32s")
_ANSWER = struct.Struct("<16s32s")
_TAG = 32
HELLO_LENGTH = _HELLO.size + _TAG
ANSWER_LENGTH = _ANSWER.size + _TAG
CONFIRM_LENGTH = _TAG


class HandshakeError(Exception):
    """The other side is refused; the text says why, and names no key."""


@dataclass(frozen=True, slots=True)
class Established:
    """A finished handshake: who the other side is, and one key for each direction."""

    peer: UUID
    send_key: bytes
    receive_key: bytes

    def __repr__(self) -> str:
        return f"<Established with {self.peer}>"


class Dialler:
    """The side that connected, and knows which voter it wants.

    Args:
        key: the group key to use.
        cluster: the group.
        me: own voter id.
        wanted: the voter that should answer at this address.
    """

    def __init__(self, key: GroupKey, cluster: UUID, me: UUID, wanted: UUID) -> None:
        self._key = key
        self._wanted = wanted
        self._private = X25519PrivateKey.generate()
        head = _HELLO.pack(
            _MAGIC,
            _VERSION,
            cluster.bytes,
            key.id,
            me.bytes,
            wanted.bytes,
            self._private.public_key().public_bytes_raw(),
        )
        self.hello = head + key.tag(b"hello", head)
        """What is sent first."""

    def answered(self, answer: bytes) -> tuple[bytes, Established]:
        """Take the listener's answer; gives CONFIRM and the session.

        Raises:
            HandshakeError: it has not the key, or it is another voter than the wanted one.
        """
        head, tag = answer[: _ANSWER.size], answer[_ANSWER.size :]
        peer, ephemeral = _ANSWER.unpack(head)
        secrets = _Secrets(self._key, self._private, ephemeral, self.hello + head)
        if not hmac.compare_digest(tag, secrets.answer_tag):
            raise HandshakeError("it does not prove that it has the key")
        if peer != self._wanted.bytes:
            raise HandshakeError(
                f"voter {UUID(bytes=peer)} answers at the address of voter {self._wanted}: its "
                "data directory is another one"
            )
        session = Established(UUID(bytes=peer), secrets.to_listener, secrets.to_dialler)
        return secrets.confirm_tag, session


class Listener:
    """The side that was connected to.

    Args:
        keys: the group keys it accepts.
        cluster: the group.
        me: own voter id.
    """

    def __init__(self, keys: Sequence[GroupKey], cluster: UUID, me: UUID) -> None:
        self._keys = {key.id: key for key in keys}
        self._cluster = cluster
        self._me = me
        self._secrets: _Secrets | None = None
        self._peer: UUID | None = None
        self._wanted: UUID | None = None

    @property
    def greeted_already(self) -> bool:
        """Whether HELLO has come."""
        return self._secrets is not None

    def greeted(self, hello: bytes) -> bytes:
        """Take HELLO; gives ANSWER.

        Raises:
            HandshakeError: it is of another protocol, group or key.
        """
        head, tag = hello[: _HELLO.size], hello[_HELLO.size :]
        magic, version, cluster, key_id, peer, wanted, ephemeral = _HELLO.unpack(head)
        if magic != _MAGIC or version != _VERSION:
            raise HandshakeError("it speaks another protocol")
        key = self._keys.get(key_id)
        if key is None or not hmac.compare_digest(tag, key.tag(b"hello", head)):
            raise HandshakeError("it has not the key")
        if cluster != self._cluster.bytes:
            raise HandshakeError(f"it belongs to group {UUID(bytes=cluster)}")
        if peer == self._me.bytes:
            raise HandshakeError("it claims to be this voter")
        private = X25519PrivateKey.generate()
        answer = _ANSWER.pack(self._me.bytes, private.public_key().public_bytes_raw())
        self._peer, self._wanted = UUID(bytes=peer), UUID(bytes=wanted)
        self._secrets = _Secrets(key, private, ephemeral, hello + answer)
        return answer + self._secrets.answer_tag

    def confirmed(self, confirm: bytes) -> Established:
        """Take CONFIRM; gives the session.

        Raises:
            HandshakeError: it does not fit, or another voter was wanted.
        """
        if self._secrets is None or self._peer is None:
            raise HandshakeError("it confirms before it greets")
        if not hmac.compare_digest(confirm, self._secrets.confirm_tag):
            raise HandshakeError("it does not prove that it has the key")
        # After the proof, so that the dialler could see whom it reached.
        if self._wanted != self._me:
            raise HandshakeError(f"voter {self._peer} looks for voter {self._wanted} here")
        return Established(self._peer, self._secrets.to_dialler, self._secrets.to_listener)


class _Secrets:
    """What both sides derive."""

    def __init__(
        self, key: GroupKey, private: X25519PrivateKey, ephemeral: bytes, transcript: bytes
    ) -> None:
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        except ValueError:
            raise HandshakeError("its ephemeral key is not a valid one") from None
        salt = hashlib.sha256(transcript).digest()
        material = derive(key.secret + shared, salt, b"constellation/raft/session", 128)
        self.to_listener, self.to_dialler = material[:32], material[32:64]
        self.answer_tag = hmac.digest(material[64:96], b"answer" + salt, hashlib.sha256)
        self.confirm_tag = hmac.digest(material[96:], b"confirm" + salt, hashlib.sha256)
