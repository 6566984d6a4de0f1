"""A state machine that remembers which operations it carried out, and in which order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgpack


@dataclass(frozen=True, slots=True)
class Standing:
    """What a replica has carried out.

    Attributes:
        index: the last entry.
        chain: a hash over all operations in their order: equal only for equal histories.
        done: a bit for each operation's number.
        twice: how often an operation was carried out again.
    """

    index: int
    chain: bytes
    done: int
    twice: int

    def has(self, number: int) -> bool:
        """Whether the operation with this number was carried out."""
        return bool(self.done >> number & 1)


class Record:
    """Carries out operations that are numbers in decimal; a state machine."""

    def __init__(self) -> None:
        self._index = 0
        self._chain = bytes(16)
        self._done = bytearray()
        self._twice = 0

    def apply(self, index: int, operation: bytes) -> bytes:
        """Remember the operation; the result is its number."""
        self._index = index
        head = self._chain + index.to_bytes(8, "big")
        self._chain = hashlib.blake2b(head + operation, digest_size=16).digest()
        number = int(operation.split(b" ", 1)[0])
        byte, bit = divmod(number, 8)
        if byte >= len(self._done):
            self._done += bytes(byte - len(self._done) + 1)
        self._twice += self._done[byte] >> bit & 1
        self._done[byte] |= 1 << bit
        return str(number).encode()

    def snapshot(self) -> bytes:
        """All of it."""
        packed: bytes = msgpack.packb([self._index, self._chain, bytes(self._done), self._twice])
        return packed

    def restore(self, snapshot: bytes) -> None:
        """Become what :meth:`snapshot` gave; ``b""`` is the beginning."""
        if not snapshot:
            self._index, self._chain, self._done, self._twice = 0, bytes(16), bytearray(), 0
            return
        self._index, self._chain, done, self._twice = msgpack.unpackb(snapshot)
        self._done = bytearray(done)

    def standing(self) -> Standing:
        """What was carried out so far."""
        return standing(self.snapshot())


def standing(snapshot: bytes) -> Standing:
    """What a snapshot tells."""
    index, chain, done, twice = msgpack.unpackb(snapshot)
    return Standing(index, chain, int.from_bytes(done, "little"), twice)
