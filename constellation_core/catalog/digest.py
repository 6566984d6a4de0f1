"""Which state of each owner a node knows: in one number to compare, and in full to send."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping

import msgpack

from constellation_core.catalog.owners import Known

Digest = Mapping[str, Known]
"""What is known of each owner."""

MOST_OWNERS = 10_000
_MOST_PLAIN = 1024 * 1024
"""Bytes of a digest before compression."""
_MOST_NAME = 400
_SEPARATOR = "\0"


class LiveDigest:
    """A digest that changes by one owner at a time, and knows its fingerprint at any time.

    The fingerprint is the sum of a hash of each owner, so that the change of one among a thousand
    does not cost a look at all.
    """

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self._sum = 0

    def set(self, owner: str, known: Known | None) -> None:
        """Set what is known of an owner; ``None`` takes it out."""
        old = self.known.pop(owner, None)
        if old is not None:
            self._sum -= _hash(owner, old)
        if known is not None:
            self._sum += _hash(owner, known)
            self.known[owner] = known

    def acquaint(self, other: LiveDigest) -> None:
        """Become a copy of another."""
        self.known, self._sum = dict(other.known), other._sum

    def fingerprint(self) -> bytes:
        """Eight bytes that are equal for equal digests."""
        return (self._sum & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")


def fingerprint(digest: Digest) -> bytes:
    """:meth:`LiveDigest.fingerprint` of a whole digest."""
    live = LiveDigest()
    for owner, known in digest.items():
        live.set(owner, known)
    return live.fingerprint()


def pack_digest(digest: Digest) -> bytes:
    """The wire form: all numbers, then all names, so it is coded at once and compresses best."""
    owners = sorted(digest)
    numbers = [number for owner in owners for number in digest[owner][:2]]
    marks = [digest[owner].mark for owner in owners]
    plain = struct.pack(f">I{len(numbers)}Q{len(marks)}I", len(owners), *numbers, *marks)
    return zlib.compress(plain + _SEPARATOR.join(owners).encode(), 1)


def unpack_digest(data: bytes) -> Digest:
    """The inverse of :func:`pack_digest`.

    Raises:
        ValueError: when it is not a digest, or one beyond the limits.
    """
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data, _MOST_PLAIN)
        (count,) = struct.unpack_from(">I", plain)
        if not inflate.eof or count > MOST_OWNERS:
            raise ValueError("a digest that is too long or cut off")
        numbers = struct.unpack_from(f">{2 * count}Q", plain, 4)
        marks = struct.unpack_from(f">{count}I", plain, 4 + 16 * count)
    except (zlib.error, struct.error) as error:
        raise ValueError(f"not a digest: {error}") from None
    # The separators that are looked for are bounded by the count, not by what was sent.
    names = plain[4 + 20 * count :].decode().split(_SEPARATOR, count) if count else []
    states = map(Known, numbers[::2], numbers[1::2], marks)
    known = dict(zip(names, states, strict=True))
    if any(not 0 < len(name) <= _MOST_NAME for name in known) or max(numbers, default=0) >= 2**63:
        raise ValueError("not a digest: a name or a number out of bounds")
    return known


def _hash(owner: str, known: Known) -> int:
    text = msgpack.packb([owner, *known])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
