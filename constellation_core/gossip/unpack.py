"""Reads msgpack from strangers: structure first, and nothing but what was asked for.

A general decoder builds whatever it is sent, and that is much larger in memory than on the wire:
one byte makes an empty list of 56, and five bytes claim a list of a thousand million. Here the
caller says where a map or a list may stand; everywhere else only a scalar is read. So memory
grows with the bytes that came, and time as well.
"""

from __future__ import annotations

from typing import Any

import msgpack

MOST_FIELDS = 64
"""Fields of a map; memberlist's largest message has eight."""


class Reader:
    """Reads msgpack values one after the other.

    Every method raises ``msgpack.OutOfData`` when the data ends early, and ``ValueError`` when
    something else stands there.

    Args:
        data: the values.
        raw: whether strings are bytes (msgpack before 2013) or text.
    """

    def __init__(self, data: bytes, *, raw: bool) -> None:
        limit = max(1, len(data))
        self._data = data
        self._unpacker = msgpack.Unpacker(
            raw=raw, max_buffer_size=limit, max_str_len=limit, max_bin_len=limit, max_ext_len=0
        )
        self._unpacker.feed(data)

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        position: int = self._unpacker.tell()
        return position

    def map_header(self, most: int) -> int:
        """The number of pairs of the map that stands here; ``most`` are allowed."""
        return _at_most(most, self._unpacker.read_map_header())

    def array_header(self, most: int) -> int:
        """The number of elements of the list that stands here; ``most`` are allowed."""
        return _at_most(most, self._unpacker.read_array_header())

    def scalar(self) -> Any:
        """The number, flag, nothing, text or bytes that stands here."""
        if self._at_container():
            raise ValueError("a list or a map in the place of a value")
        return self._unpacker.unpack()

    def field(self) -> Any:
        """A scalar; ``None`` for anything else, which is skipped."""
        if self._at_container():
            self._unpacker.skip()
            return None
        return self._unpacker.unpack()

    def _at_container(self) -> bool:
        position = self.position
        if position >= len(self._data):
            raise msgpack.OutOfData
        first = self._data[position]
        return (
            0x80 <= first <= 0x9F  # fixmap, fixarray
            or 0xDC <= first <= 0xDF  # array, map
            or 0xC7 <= first <= 0xC9  # ext
            or 0xD4 <= first <= 0xD8  # fixext
        )


def _at_most(most: int, count: int) -> int:
    if count > most:
        raise ValueError(f"{count} elements, {most} are allowed")
    return count


def unpack_small(data: bytes) -> Any:
    """Decode one whole value, of whatever structure; for data that is known to be short.

    Raises:
        ValueError: when it is not msgpack, or something stands behind it.
        msgpack.OutOfData: when it is cut off.
    """
    # Lists are allocated at the length that they claim: see first whether all of it is there.
    scout = msgpack.Unpacker(max_buffer_size=max(1, len(data)))
    scout.feed(data)
    scout.skip()
    return msgpack.unpackb(data, strict_map_key=True)
