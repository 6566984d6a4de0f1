"""What leaves a voter before its journal is durable, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.messages import Message
from constellation_core.consensus.engine.peers import Peers
from constellation_core.consensus.engine.transport import Transport
from constellation_core.testing.free_ports import PortPicker

ME, OTHER = UUID(int=1), str(UUID(int=2))
ENTRIES: Message = {
    "type": "append_entries",
    "term": 1,
    "commit_index": 2,
    "entries": [],
    "prevLogIdx": 2,
    "prevLogTerm": 0,
}
CANDIDATE = {"term": 2, "last_log_index": 2, "last_log_term": 0}
PROMISES: list[Message] = [
    {"type": "next_node_idx", "term": 1, "next_node_idx": 3, "reset": False, "success": True},
    {"type": "request_vote", **CANDIDATE, "transfer": False},
    {"type": "response_vote", "term": 2},
    {"type": "pre_vote", **CANDIDATE},
    {"type": "pre_vote_reply", "term": 2, "granted": True},
    {"type": "newer_term", "term": 2},
    {"type": "timeout_now", "term": 2},
]


class Recorder:
    """In place of a connection and a journal: writes down what happens in which order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.full = False

    def send(self, data: bytes, now: float) -> None:
        self.events.append("send")

    def sync(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.events.append("sync")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def transport(recorder: Any) -> Iterator[Transport]:
    peers = Peers(Identity(UUID(int=9), ME), [bytes(32)])
    bind = ("127.0.0.1", PortPicker().pick())
    made = Transport(bind, peers, recorder.sync, lambda: 0.0)
    made._current[OTHER] = recorder
    yield made
    made.close()


def test_a_leaders_entries_leave_while_its_own_disk_is_written(
    transport: Transport, recorder: Recorder
) -> None:
    transport.send(OTHER, ENTRIES)
    transport.send(OTHER, ENTRIES)
    transport.flush()
    assert recorder.events == ["send", "send", "sync"]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda each: str(each["type"]))
def test_a_promise_leaves_when_it_is_durable(
    transport: Transport, recorder: Recorder, promise: Message
) -> None:
    transport.send(OTHER, promise)
    transport.flush()
    assert recorder.events == ["sync", "send"]
    # What was early once is not early for ever, nor the other way.
    transport.send(OTHER, ENTRIES)
    transport.flush()
    assert recorder.events == ["sync", "send", "send", "sync"]


def test_nothing_overtakes_a_promise(transport: Transport, recorder: Recorder) -> None:
    for message in (ENTRIES, PROMISES[0], ENTRIES):
        transport.send(OTHER, message)
    transport.flush()
    assert recorder.events == ["sync", "send", "send", "send"]


def test_a_promise_that_cannot_be_made_durable_is_not_made(
    transport: Transport, recorder: Recorder
) -> None:
    recorder.full = True
    transport.send(OTHER, PROMISES[0])
    with pytest.raises(OSError, match="No space"):
        transport.flush()
    assert recorder.events == []
