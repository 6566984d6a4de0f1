"""How a stream is opened: a question and an answer in memberlist's own stream framing.

The connection's first message, of a type that memberlist does not know, says who wants what of
whom, in which versions. The answer chooses, or refuses with a reason. Both travel like every
stream message of gossip: labelled, and encrypted with the cluster's key. After an answer that
accepts, the connection carries frames (``frames.py``) and nothing else. A memberlist of another
make closes the connection at the unknown type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from constellation_core.gossip.messages import DecodeError, Fields, MessageType

LOWEST_VERSION = 1
HIGHEST_VERSION = 1
"""Of the stream protocol. A service has versions of its own beside it."""

PUBLIC = 32
"""Bytes of an ephemeral X25519 key; without encryption as many random bytes."""
MOST_VERSIONS = 32
LONGEST_SERVICE = 64
_LEAST_SILENCE = 100
"""Milliseconds."""


@dataclass(frozen=True, slots=True)
class StreamOpen:
    """Asks for a stream.

    Attributes:
        lowest, highest: versions of the stream protocol that the sender speaks.
        service: what is wanted.
        versions: of the service, one byte each.
        source: name of the sender, as it says; the key proves only that it is of the cluster.
        target: name of the node that is meant; another one at its address refuses.
        key: fingerprint of the ring's key that the frames' keys derive from; empty without
            encryption.
        public: ephemeral and fresh, so that every stream has its own keys.
        takes: the largest message that the sender accepts, in bytes.
        silence: milliseconds without a frame after which it takes the peer for gone.
        deadline: milliseconds that the stream may last; 0 for no end.
    """

    TYPE: ClassVar = MessageType.STREAM_OPEN
    lowest: int
    highest: int
    service: str
    versions: bytes
    source: str
    target: str
    key: str
    public: bytes
    takes: int
    silence: int
    deadline: int = 0

    def fields(self) -> dict[str, Any]:
        return {
            "Min": self.lowest,
            "Max": self.highest,
            "Service": self.service,
            "Versions": self.versions,
            "Source": self.source,
            "Target": self.target,
            "Key": self.key,
            "Public": self.public,
            "Takes": self.takes,
            "Silence": self.silence,
            "Deadline": self.deadline,
        }

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(
            data.number(b"Min", most=255),
            data.number(b"Max", most=255),
            data.text(b"Service", most=LONGEST_SERVICE),
            data.raw(b"Versions", most=MOST_VERSIONS),
            data.text(b"Source"),
            data.text(b"Target"),
            data.text(b"Key", most=64),
            _public(data, b"Public"),
            data.number(b"Takes"),
            _silence(data),
            data.number(b"Deadline"),
        )


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """Accepts or refuses.

    Attributes:
        asked: the question's ``public``: this answers that question and no other.
        version: of the stream protocol, the highest that both speak; 0 when refused.
        service_version: the highest that both know.
        public: as in :class:`StreamOpen`.
        takes, silence: as in :class:`StreamOpen`, of the one who answers.
        refusal: why not, for machines; see
            :class:`~constellation_core.gossip.rpc.failures.StreamRefusedError`.
        reason, hint: the same for people.
    """

    TYPE: ClassVar = MessageType.STREAM_ANSWER
    asked: bytes
    version: int
    service_version: int
    public: bytes
    takes: int
    silence: int
    refusal: str = ""
    reason: str = ""
    hint: str = ""

    @classmethod
    def refused(cls, question: StreamOpen, refusal: str, reason: str, hint: str = "") -> Self:
        """An answer that says no to ``question``."""
        none = bytes(PUBLIC)
        return cls(question.public, 0, 0, none, 0, _LEAST_SILENCE, refusal, reason, hint)

    def fields(self) -> dict[str, Any]:
        return {
            "Asked": self.asked,
            "Version": self.version,
            "ServiceVersion": self.service_version,
            "Public": self.public,
            "Takes": self.takes,
            "Silence": self.silence,
            "Refusal": self.refusal,
            "Reason": self.reason,
            "Hint": self.hint,
        }

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(
            _public(data, b"Asked"),
            data.number(b"Version", most=255),
            data.number(b"ServiceVersion", most=255),
            _public(data, b"Public"),
            data.number(b"Takes"),
            _silence(data),
            data.text(b"Refusal", most=64),
            data.text(b"Reason", most=1024),
            data.text(b"Hint", most=1024),
        )


Opening = StreamOpen | StreamAnswer
OPENING: Mapping[int, type[Opening]] = {kind.TYPE: kind for kind in (StreamOpen, StreamAnswer)}


def highest_common(ours: bytes, theirs: bytes) -> int | None:
    """The highest version in both, of one byte each; ``None`` when there is none."""
    return max(set(ours) & set(theirs), default=None)


def agreed_version(question: StreamOpen) -> int | None:
    """The highest version of the stream protocol that both speak; ``None`` when there is none."""
    highest = min(question.highest, HIGHEST_VERSION)
    return highest if highest >= max(question.lowest, LOWEST_VERSION) else None


def _public(data: Fields, name: bytes) -> bytes:
    public = data.raw(name, most=PUBLIC)
    if len(public) != PUBLIC:
        raise DecodeError(f"stream: {name.decode()} has not {PUBLIC} bytes")
    return public


def _silence(data: Fields) -> int:
    return max(_LEAST_SILENCE, data.number(b"Silence"))
