"""A bounded round of coverage-guided fuzzing over every decoder, from the golden frames on."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from constellation_core.catalog import messages as catalog
from constellation_core.catalog.owners import Known, Update
from constellation_core.catalog.rows import instance_row, service_row
from constellation_core.consensus.interface import EngineStatus, Role, Voter
from constellation_core.consensus.remote import wire
from constellation_core.consensus.state import Answer, Entry, Query, Space, operations
from constellation_core.gossip import encode_tags, lzw
from constellation_core.gossip.echo import answer
from constellation_core.gossip.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Nack,
    NodeRow,
    Ping,
    PushPull,
    Suspect,
    UserMessage,
    encode,
    encode_map,
)
from constellation_core.gossip.packets import add_crc, compound, compress
from constellation_core.gossip.rpc.frames import FrameKey, FrameKind, FrameWriter
from constellation_core.gossip.rpc.opening import StreamAnswer, StreamOpen
from constellation_core.gossip.streams import encode_stream
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.port import Port
from constellation_core.model.published import PublishedService
from constellation_core.model.route import Route
from constellation_core.model.service import Service

HERE = Path(__file__).parent
FUZZER = HERE / "fuzz_decoders.py"
TARGETS = re.findall(r'^    "([a-z-]+)": _', FUZZER.read_text(), re.MULTILINE)
RUNS = {"lzw": 2_000, "datagram": 5_000}
"""Inputs by target; :data:`_OTHERS` for those that are not named."""
_OTHERS = 10_000
NO_FUZZER = "atheris is not installed: it has no wheel for this Python or machine"


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason=NO_FUZZER)
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_crashes_hangs_or_fills_memory(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    runs = RUNS.get(target, _OTHERS)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"{number:04}").write_bytes(seed)
    done = subprocess.run(
        [
            sys.executable,
            str(FUZZER),
            target,
            f"-runs={runs}",
            "-seed=1",
            "-timeout=20",
            "-rss_limit_mb=1024",
            "-max_len=4096",
            f"-artifact_prefix={tmp_path}/",
            str(corpus),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert re.search(rf"Done {runs} runs", done.stderr), done.stderr[-2000:]


def openings() -> list[StreamOpen | StreamAnswer]:
    public = bytes(range(32))
    asked = StreamOpen(1, 1, "logs", b"\x01", "a", "b", "1f2e", public, 65_536, 30_000)
    answered = StreamAnswer(public, 1, 1, public, 65_536, 30_000)
    return [asked, answered, StreamAnswer.refused(asked, "busy", "too many streams", "wait")]


def consensus() -> list[bytes]:
    put = operations.encode(operations.Put("a", b"1", 3), operations.RequestId(1, 2, 1))
    query = Query(Space.KEYS, "a", exact=False, after=3)
    bodies = (wire.Propose(put), wire.Ask(query, True, 1.0), wire.RenewLeases((1, 3)))
    replies = (
        wire.Carried(put),
        Answer(7, True, (Entry("a", b"1", 3),), ("b",)),
        EngineStatus(Role.LEADER, "a", leader=Voter("a", "a:1"), voters=(Voter("a", "a:1"),)),
        wire.Failure(wire.Outcome.NOT_LEADER, "because", Voter("a", "a:1")),
    )
    return [
        put,
        operations.encode(operations.Renew((1, 3))),
        *(wire.encode_request(wire.Request(body, 2.0)) for body in bodies),
        *(message for reply in replies for message in wire.encode_reply(reply)),
    ]


def seeds(target: str) -> list[bytes]:
    """Valid input to start from: what is new in coverage grows out of it."""
    instance = Instance(
        "web.node-b", "web", "node-b", "10.0.0.2", {"http": 80}, Health.HEALTHY, 1, ("a",)
    )
    service = Service(
        "web", command=("x",), ports=(Port("http"),), routes=(Route(host="a.example.com"),)
    )
    rows = (
        instance_row(instance, 2),
        service_row(PublishedService.of(service, domain="example.com"), "node-b", 3),
    )
    update = Update("node-b", 1, 0, 3, rows)
    digest = {"node-b": Known(1, 3, 7)}
    messages = [
        catalog.encode(message)
        for message in (
            update,
            catalog.Compare("node-b", b"12345678"),
            catalog.DigestReply(digest),
            catalog.PullRequest(digest, (update,)),
            catalog.Updates((update,)),
            catalog.Heard("node-b", Known(1, 3, 7)),
        )
    ]
    versions = bytes((1, 5, 2, 20, 20, 20))
    alive = Alive(1, "node-b", bytes((10, 0, 0, 2)), 7946, b"", versions)
    plain = [
        alive,
        Ping(1, "node-a", bytes((10, 0, 0, 2)), 7946, "node-b"),
        IndirectPing(1, bytes((10, 0, 0, 3)), 7946, "node-c", nack=True),
        Ack(1, b"payload"),
        Nack(1),
        Suspect(1, "node-a", "node-b"),
        Dead(1, "node-b", "node-b"),
        *(UserMessage(message) for message in messages),
    ]
    datagrams = [encode(message) for message in plain]
    datagrams += compound(datagrams)
    datagrams += [add_crc(datagrams[-1]), compress(datagrams[-1])]
    row = NodeRow("node-b", bytes((10, 0, 0, 2)), 7946, b"\xff\x80", 1, 0, versions)
    view = PushPull(True, (row, row), messages[1])
    streams = [encode_stream(message) for message in (view, *plain)]
    streams.append(compress(streams[0]))
    match target:
        case "row":
            return [row.data for row in rows]
        case "catalog":
            return messages
        case "stream":
            return streams
        case "channel":
            frames = FrameWriter(FrameKey(None))
            return [
                frames.frame(FrameKind.BEGIN)
                + frames.frame(FrameKind.PART, b"one ")
                + frames.frame(FrameKind.MESSAGE, b"message")
                + frames.frame(FrameKind.CREDIT, b"\0\0\1\0")
                + frames.frame(kind, body)
                for kind, body in (
                    (FrameKind.END, b""),
                    (FrameKind.DONE, b""),
                    (FrameKind.FAIL, encode_map({"Kind": 1, "Reason": "because"})),
                )
            ]
        case "opening":
            return [encode_map(opening.fields()) for opening in openings()]
        case "stream-pieces":
            return [b"\x03" + stream for stream in streams]
        case "consensus":
            return consensus()
        case "small":
            return [encode_tags({"epoch": "1f"}), answer("10.0.0.1", b"76543210")]
        case "lzw":
            return [lzw.compress(stream) for stream in streams]
        case _:
            return datagrams
