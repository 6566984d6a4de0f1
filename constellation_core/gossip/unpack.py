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
        self._data = data
        self._raw = raw
        self._start = 0
        self._flat = True
        self._unpacker = self._unpacker_at(0)

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        position: int = self._start + self._unpacker.tell()
        return position

    def fields(self) -> dict[Any, Any]:
        """The map that stands here, of scalars; a value that is none becomes ``None``."""
        if not self._flat:
            return self._fields_one_by_one()
        before = self.position
        try:
            found = self._unpacker.unpack()
        except msgpack.OutOfData:
            raise
        except (msgpack.UnpackException, ValueError, TypeError):
            # Not flat, or not a map at all: look again, value by value. From here on always so,
            # since going back copies what is left.
            self._flat = False
            self._start, self._unpacker = before, self._unpacker_at(before)
            return self._fields_one_by_one()
        if not isinstance(found, dict):
            raise ValueError("not a map")
        return found

    def _fields_one_by_one(self) -> dict[Any, Any]:
        fields: dict[Any, Any] = {}
        for _ in range(self.map_header(MOST_FIELDS)):
            key = self.scalar()
            fields[key] = self.field()
        return fields

    def _unpacker_at(self, position: int) -> msgpack.Unpacker:
        """An unpacker that builds no list, and no map but flat small ones."""
        limit = max(1, len(self._data) - position)
        unpacker = msgpack.Unpacker(
            raw=self._raw,
            strict_map_key=False,
            object_hook=_refuse_nested,
            max_buffer_size=limit,
            max_str_len=limit,
            max_bin_len=limit,
            max_array_len=0,
            max_map_len=MOST_FIELDS,
            max_ext_len=0,
        )
        unpacker.feed(self._data[position:] if position else self._data)
        return unpacker

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

    def skipped(self) -> bytes:
        """The bytes of the one value that stands here, whatever it is."""
        start = self.position
        self._unpacker.skip()
        return self._data[start : self.position]

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


def unpack_flat(data: bytes) -> dict[Any, Any] | None:
    """The small map of scalars that stands at the beginning; ``None`` for everything else.

    Without a :class:`Reader`, since nearly every message is such a map, and this takes a fifth of
    the time. What gives ``None`` may still be a map, and is to be looked at by a reader.
    """
    try:
        found = msgpack.unpackb(
            data,
            raw=True,
            strict_map_key=False,
            object_hook=_refuse_nested,
            max_array_len=0,
            max_map_len=MOST_FIELDS,
            max_ext_len=0,
        )
    except msgpack.ExtraData as more:
        found = more.unpacked
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError):
        return None
    return found if type(found) is dict else None


def _refuse_nested(fields: dict[Any, Any]) -> dict[Any, Any]:
    # Called from the inside out, so that what is built at a time is one map of one map.
    if any(type(value) is dict for value in fields.values()):
        raise ValueError("a map in a map")
    return fields


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
