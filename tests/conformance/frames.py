"""Frames as they stood on the wire, taken apart layer by layer and put together again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from constellation_core.gossip import Keyring
from constellation_core.gossip.envelope import STREAM_HEADER
from constellation_core.gossip.keyring import NONCE
from constellation_core.gossip.messages import MessageType, UserMessage, decode, encode, encode_map
from constellation_core.gossip.packets import (
    MAX_STREAM,
    add_crc,
    compound,
    compress,
    decompress,
)
from constellation_core.gossip.serf import SerfMessage
from constellation_core.gossip.streams import decode_stream, encode_stream

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_KEY = bytes(range(32))
"""Encrypts the frames of the encrypted recordings, and nothing else."""


@dataclass(frozen=True)
class Frame:
    """One datagram, or what one side sent on a connection.

    Attributes:
        recording: what it was recorded in.
        via: ``udp`` or ``tcp``.
        kinds: the messages in it, when it was recorded.
        data: its bytes.
    """

    recording: str
    via: str
    kinds: tuple[str, ...]
    data: bytes

    def __str__(self) -> str:
        return f"{self.recording}-{self.via}-{'-'.join(self.kinds)}-{len(self.data)}"

    @property
    def key(self) -> bytes | None:
        return GOLDEN_KEY if "encrypted" in self.recording else None


def read_golden(name: str) -> list[dict[str, Any]]:
    """The lines of a recording."""
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]


def golden_frames() -> list[Frame]:
    """All frames that were recorded."""
    names = sorted(path.stem for path in GOLDEN.glob("*.jsonl") if path.stem != "lzw")
    return [
        Frame(name, line["via"], tuple(line["kinds"]), bytes.fromhex(line["hex"]))
        for name in names
        for line in read_golden(name)
    ]


@dataclass(frozen=True)
class Opened:
    """What was in a frame, and the same put together by our own encoders.

    Attributes:
        kinds: the layers from the outside to the inside, and then the messages.
        again: the frame, encoded anew with its own nonce.
    """

    kinds: tuple[str, ...]
    again: bytes


def open_frame(via: str, data: bytes, key: bytes | None) -> Opened:
    """Take a frame apart and build it again.

    Raises whatever the decoders do for one that they cannot read.
    """
    if via == "udp":
        return _sealed(data, b"", key) if key is not None else _datagram(data)
    if key is None:
        return _stream(data)
    header, body = data[:STREAM_HEADER], data[STREAM_HEADER:]
    assert header[0] == MessageType.ENCRYPT
    assert int.from_bytes(header[1:], "big") == len(body)
    opened = _sealed(body, header, key, stream=True)
    return Opened(opened.kinds, header + opened.again)


def _sealed(data: bytes, associated: bytes, key: bytes, *, stream: bool = False) -> Opened:
    plain = Keyring([key]).decrypt(data, associated)
    nonce = data[1 : 1 + NONCE]
    inside = _stream(plain) if stream else _datagram(plain)
    ring = Keyring([key], random=lambda _: nonce)
    again = ring.encrypt(inside.again, associated, version=data[0])
    return Opened((f"encrypted {data[0]}", *inside.kinds), again)


def _datagram(data: bytes) -> Opened:
    if data[0] == MessageType.HAS_CRC:
        inside = _datagram(data[5:])
        assert int.from_bytes(data[1:5], "big") == zlib.crc32(data[5:])
        return Opened(("crc", *inside.kinds), add_crc(inside.again))
    if data[0] == MessageType.COMPRESS:
        inside = _datagram(decompress(data[1:]))
        return Opened(("compress", *inside.kinds), compress(inside.again))
    if data[0] == MessageType.COMPOUND:
        parts = [_datagram(part) for part in _parts(data)]
        (again,) = compound([part.again for part in parts])
        return Opened(("compound", *_each(parts)), again)
    message = decode(data)
    if isinstance(message, UserMessage):
        return Opened(("UserMessage",), encode(message))
    return Opened((type(message).__name__,), encode(message))


def _stream(data: bytes) -> Opened:
    if data[0] == MessageType.COMPRESS:
        inside = _stream(decompress(data[1:], MAX_STREAM))
        return Opened(("compress", *inside.kinds), compress(inside.again))
    message = decode_stream(data)
    return Opened((type(message).__name__,), encode_stream(message))


def _parts(data: bytes) -> Iterator[bytes]:
    position = 2 + 2 * data[1]
    for number in range(data[1]):
        length = int.from_bytes(data[2 + 2 * number : 4 + 2 * number], "big")
        yield data[position : position + length]
        position += length
    assert position == len(data)


def _each(parts: Iterable[Opened]) -> Iterator[str]:
    for part in parts:
        yield from part.kinds


def serf_again(payload: bytes) -> bytes:
    """A message of Serf, decoded and encoded anew in our dialect of msgpack."""
    kind = SerfMessage(payload[0])
    fields = msgpack.unpackb(payload[1:], raw=True)
    assert isinstance(fields, dict)
    return bytes((kind,)) + encode_map(fields)
