"""Coverage-guided fuzzing of every decoder that reads bytes of strangers.

Not a test by itself: ``test_fuzz_decoders.py`` runs it for a bounded number of inputs, and one can
run it for a night::

    .venv/bin/python tests/fuzz/fuzz_decoders.py datagram -max_total_time=28800

A decoder may refuse what it gets, with the error that it documents, and nothing else: any other
exception, a hang and memory beyond the limit end the run with the input that caused it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random

import atheris

with atheris.instrument_imports(
    include=[
        "constellation_core.gossip",
        "constellation_core.catalog",
        "constellation_core.consensus",
    ]
):
    from constellation_core.catalog import messages as catalog_messages
    from constellation_core.catalog.catalog import Catalog
    from constellation_core.catalog.rows import RowError, decode_row
    from constellation_core.consensus.remote.values import MalformedError
    from constellation_core.consensus.remote.wire import decode_reply, decode_request
    from constellation_core.consensus.state import ReplicatedState
    from constellation_core.gossip import lzw
    from constellation_core.gossip.config import GossipConfig
    from constellation_core.gossip.echo import read_answer
    from constellation_core.gossip.envelope import Envelope
    from constellation_core.gossip.keyring import DecryptError, Keyring
    from constellation_core.gossip.member import Member, decode_tags
    from constellation_core.gossip.messages import DecodeError, decode, decode_map
    from constellation_core.gossip.protocol import Protocol
    from constellation_core.gossip.rpc.channel import Channel, Terms, window
    from constellation_core.gossip.rpc.frames import (
        LARGEST_BODY,
        FrameKey,
        FrameReader,
        FrameWriter,
    )
    from constellation_core.gossip.rpc.opening import StreamAnswer, StreamOpen
    from constellation_core.gossip.streams import (
        IncompleteError,
        StreamBuffer,
        decode_stream,
        encode_stream,
    )
    from constellation_core.model.node import NodeState

_PEER = ("10.0.0.2", 7946)
_PLAIN = Envelope()
_SEALED = Envelope(Keyring([b"k" * 32]), label=b"x")


def _message(data: bytes) -> None:
    with suppress(DecodeError):
        decode(data)


def _envelope(data: bytes) -> None:
    with suppress(DecodeError, DecryptError):
        list(_PLAIN.open_datagram(data))
    with suppress(DecodeError, DecryptError):
        list(_SEALED.open_datagram(data))
    with suppress(DecodeError, DecryptError):
        Envelope.encrypted_length(data[:5].ljust(5, b"\0"))


def _datagram(data: bytes) -> None:
    """A whole node, with the catalog riding on it, gets a datagram and what it calls for."""
    node = _node()
    node.on_datagram(data, _PEER, 1.0)
    node.take_actions()
    node.poll(100.0)
    node.take_actions()


def _stream(data: bytes) -> None:
    try:
        message = decode_stream(data)
    except (DecodeError, IncompleteError):
        return
    encode_stream(message)
    _node().on_request(message, 1.0)


def _stream_pieces(data: bytes) -> None:
    """Cut anywhere, a message is complete exactly when it can be decoded."""
    if not data:
        return
    size, data = data[0] % 16 + 1, data[1:]
    buffer = StreamBuffer()
    with suppress(DecodeError):
        for start in range(0, len(data), size):
            if buffer.feed(data[start : start + size]):
                with suppress(DecodeError):
                    try:
                        decode_stream(bytes(buffer.data))
                    except IncompleteError:
                        raise AssertionError("complete, and yet it is not") from None
                return


def _channel(data: bytes) -> None:
    """The serving side of a stream in clear: what a peer sends after the opening."""
    terms = Terms(takes=1000, gives=1000, silence=30, keepalive=10, total=10_000)
    clear = FrameKey(None)
    channel = Channel(terms, FrameWriter(clear), FrameReader(clear), 0.0, client=False)
    for start in range(0, len(data), 7):
        channel.receive(data[start : start + 7], 1.0)
        while channel.readable:
            assert len(channel.pop(1.0)) <= terms.takes
        channel.take_output()
    assert channel.kept <= window(terms.takes) + LARGEST_BODY
    channel.on_time(100.0)


def _opening(data: bytes) -> None:
    for kind in (StreamOpen, StreamAnswer):
        with suppress(DecodeError):
            kind.read(decode_map("opening", data))


def _lzw(data: bytes) -> None:
    with suppress(lzw.LZWError):
        assert len(lzw.decompress(data, 100_000)) <= 100_000
    assert lzw.decompress(lzw.compress(data), len(data)) == data


def _catalog(data: bytes) -> None:
    with suppress(catalog_messages.CatalogMessageError):
        message = catalog_messages.decode(data)
        catalog_messages.encode(message)


def _row(data: bytes) -> None:
    for key in ("i/web.node-b", "s/web"):
        with suppress(RowError):
            decode_row("node-b", key, 1, data)


def _consensus(data: bytes) -> None:
    """What voters and those who do not vote say to each other, and what ends up in the log."""
    with suppress(MalformedError):
        decode_request(data)
    with suppress(MalformedError):
        decode_reply([data])
    ReplicatedState().apply(1, data)


def _small(data: bytes) -> None:
    decode_tags(data)
    read_answer(data, b"01234567")


def _node() -> Protocol:
    config = GossipConfig("node-a")
    local = Member("node-a", ("10.0.0.1", 7946), 1, NodeState.ALIVE, 0.0, b"", config.versions)
    rng = Random(1)
    node = Protocol(config, local, now=0.0, rng=rng, delegate=Catalog("node-a", 1, rng))
    node.start(0.0)
    return node


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "message": _message,
    "envelope": _envelope,
    "datagram": _datagram,
    "stream": _stream,
    "stream-pieces": _stream_pieces,
    "channel": _channel,
    "opening": _opening,
    "lzw": _lzw,
    "catalog": _catalog,
    "row": _row,
    "consensus": _consensus,
    "small": _small,
}


if __name__ == "__main__":
    logging.disable()
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
