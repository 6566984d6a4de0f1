"""What PySyncObj does as shipped: the reasons for what surrounds it here.

Each test asserts the fault. One that fails after a new version is good news: read that version,
and see what can go. The tests of the same names in ``test_consensus_regressions.py`` assert
that this engine has none of them.
"""

from __future__ import annotations

import gc
import pickle
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.journal import FileJournal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from constellation_core.testing.free_ports import PortPicker

# The library opens files and leaves it to chance when they are closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    gc.collect()


class Wire(Transport):  # type: ignore[misc]
    """Delivers at once, to who is up."""

    def __init__(self, me: str, net: dict[str, Wire]) -> None:
        super().__init__(None, None, ())
        self.me, self.net = me, net
        net[me] = self

    def send(self, node: Node, message: Any) -> bool:
        if node.id not in self.net or self.me not in self.net:
            return False
        self.net[node.id]._onMessageReceived(Node(self.me), message)
        return True


class Bare(SyncObj):  # type: ignore[misc]
    """A list that is appended to."""

    def __init__(self, me: str, others: tuple[str, ...], net: dict[str, Wire], **conf: Any) -> None:
        self.raising: set[str] = set()
        settings = {"autoTick": False, "raftMinTimeout": 0.05, "raftMaxTimeout": 0.1} | conf
        settings |= {"appendEntriesPeriod": 0.01, "leaderFallbackTimeout": 30.0, "useFork": False}
        super().__init__(
            Node(me),
            [Node(each) for each in others],
            conf=SyncObjConf(**settings),
            transport=Wire(me, net),
            nodeClass=Node,
        )
        self.done: list[str] = []
        for each in others:
            self._SyncObj__onNodeConnected(Node(each))

    @replicated
    def put(self, value: str) -> None:
        if value in self.raising:
            raise ValueError(value)
        self.done.append(value)


def files(path: Path, **more: Any) -> dict[str, Any]:
    return {"journalFile": str(path / "journal"), "fullDumpFile": str(path / "dump")} | more


def tick(*nodes: Bare, until: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        for node in nodes:
            node.doTick(0.001)


def alone(path: Path, **more: Any) -> Bare:
    node = Bare("a", (), {}, **files(path, **more))
    tick(node, until=node._isLeader)
    return node


def test_a_crash_in_the_trim_loses_entries_that_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # D4
    journal = FileJournal(str(tmp_path / "journal"))
    for index in range(1, 101):
        journal.add(b"x", index, 1)
    added = FileJournal.add

    def add(self: FileJournal, command: bytes, idx: int, term: int) -> None:
        if idx == 60:
            raise SystemExit  # the process ends here
        added(self, command, idx, term)

    monkeypatch.setattr(FileJournal, "add", add)
    with pytest.raises(SystemExit):
        journal.deleteEntriesTo(50)
    monkeypatch.undo()
    assert len(FileJournal(str(tmp_path / "journal"))) < 50


def test_a_crash_between_snapshot_and_trim_loses_all_that_followed(tmp_path: Path) -> None:  # D5
    node = alone(tmp_path)
    node.put("before")
    tick(node, until=lambda: node.done == ["before"])
    node.forceLogCompaction()
    tick(node, until=(tmp_path / "dump").exists)
    acknowledged: list[int] = []
    # Entries that are acknowledged in the tick in which the snapshot was taken.
    node._SyncObj__raftLog.deleteEntriesTo = lambda _: None
    for number in range(30):
        node.put(str(number), callback=lambda _, why: acknowledged.append(why))
    tick(node, until=lambda: len(acknowledged) == 30)
    assert set(acknowledged) == {FAIL_REASON.SUCCESS}
    again = alone(tmp_path)
    tick(again, until=lambda: again.done)
    assert again.done == ["before"]


def compacted(path: Path, **more: Any) -> None:
    node = alone(path, **more)
    for number in range(9):
        node.put(str(number))
    tick(node, until=lambda: len(node.done) == 9)
    node.forceLogCompaction()
    tick(node, until=lambda: len(node._SyncObj__raftLog) == 2)


def test_a_damaged_snapshot_is_ignored_and_the_node_leads_without(tmp_path: Path) -> None:  # D6
    compacted(tmp_path)
    data = (tmp_path / "dump").read_bytes()
    (tmp_path / "dump").write_bytes(data[: len(data) // 2])
    again = alone(tmp_path)
    assert again._isLeader()
    assert again.done == []


def test_an_operation_that_raises_is_tried_for_ever(tmp_path: Path) -> None:  # D8
    node = alone(tmp_path)
    node.raising = {"poison"}
    node.put("poison")
    node.put("after")
    for _ in range(5):
        for _ in range(50):
            try:
                node.doTick(0.001)
            except ValueError:
                break
        else:
            pytest.fail("the operation was passed over")
    assert node.done == []


def test_a_callback_that_raises_has_its_operation_applied_twice(tmp_path: Path) -> None:  # D9
    node = alone(tmp_path)

    def callback(result: object, why: object) -> None:
        raise KeyError

    node.put("once", callback=callback)
    with pytest.raises(KeyError):
        tick(node, until=lambda: False)
    tick(node, until=lambda: len(node.done) > 1)
    assert node.done == ["once", "once"]


def test_a_journal_without_a_dump_file_loses_everything(tmp_path: Path) -> None:  # B
    compacted(tmp_path, fullDumpFile=None)
    again = alone(tmp_path, fullDumpFile=None)
    again.put("new")
    tick(again, until=lambda: again.raftCommitIndex == again._SyncObj__raftLog[-1][1] > 12)
    for _ in range(20):
        again.doTick(0.001)
    assert (again.done, again.raftLastApplied) == ([], 1)


def test_a_kill_of_all_nodes_under_load_loses_writes(tmp_path: Path) -> None:  # A
    names = ("a", "b", "c")

    def started(name: str) -> Bare:
        (tmp_path / name).mkdir(exist_ok=True)
        conf = files(tmp_path / name, logCompactionMinEntries=20, appendEntriesUseBatch=False)
        return Bare(name, tuple(set(names) - {name}), net, **conf)

    net: dict[str, Wire] = {}
    nodes = {name: started(name) for name in names}
    tick(nodes["a"], until=nodes["a"]._isLeader)
    acknowledged: list[str] = []
    followers = (nodes["b"], nodes["c"])

    def write() -> None:
        value = str(len(acknowledged))
        nodes["a"].put(value, callback=lambda _, why: acknowledged.append(value))
        for _ in range(3):
            nodes["a"].doTick()

    # -1: a dump has its name, and the journal is to be trimmed in the next tick.
    while any(each._SyncObj__serializer._Serializer__pid != -1 for each in followers):
        write()
        for each in followers:
            each.doTick()
    write()
    # All are killed; two come back first.
    net.clear()
    b, c = started("b"), started("c")
    tick(b, c, until=lambda: b._isLeader() or c._isLeader())
    tick(b, c, until=lambda: b.isReady() and c.isReady())
    assert set(acknowledged) - set(b.done)


def test_a_node_with_an_empty_disk_votes_away_what_it_acknowledged(tmp_path: Path) -> None:  # C
    net: dict[str, Wire] = {}
    names = ("a", "b", "c")
    nodes = {
        name: Bare(name, tuple(set(names) - {name}), net, journalFile=str(tmp_path / name))
        for name in names
    }
    a, c = nodes["a"], nodes["c"]
    tick(a, until=a._isLeader)
    del net["c"]
    acknowledged: list[int] = []
    a.put("kept", callback=lambda _, why: acknowledged.append(why))
    tick(a, until=lambda: acknowledged)
    assert acknowledged == [FAIL_REASON.SUCCESS]
    del net["a"], net["b"]
    (tmp_path / "b").unlink()
    (tmp_path / "b.meta").unlink()
    Bare("b", ("a", "c"), net, journalFile=str(tmp_path / "b"))
    net["c"] = c._SyncObj__transport
    tick(c, until=c._isLeader)
    assert c.done == []


def test_changes_of_the_members_overlap(tmp_path: Path) -> None:  # G
    net: dict[str, Wire] = {}
    names = ("a", "b", "c")
    nodes = [
        Bare(name, tuple(set(names) - {name}), net, dynamicMembershipChange=True) for name in names
    ]
    a = nodes[0]
    tick(a, until=lambda: a._isLeader() and a.raftLastApplied > 1)
    del net["b"], net["c"]
    refused: list[object] = []
    for name in ("d", "e"):
        a.addNodeToCluster(Node(name), callback=lambda _, why: refused.append(why))
    committed = a.raftCommitIndex
    tick(a, until=lambda: len(a.otherNodes) == 4)
    assert (a.raftCommitIndex, refused) == (committed, [])


def test_a_follower_drops_entries_at_a_heartbeat_that_does_not_reach_so_far(
    tmp_path: Path,
) -> None:  # D10
    net: dict[str, Wire] = {}
    b = Bare("b", ("a",), net)
    log = b._SyncObj__raftLog
    entries = [(b"\x01", index, 1) for index in range(2, 6)]
    message = {"type": "append_entries", "term": 1, "commit_index": 5, "prevLogIdx": 1}
    message |= {"prevLogTerm": 0, "entries": entries}
    b._SyncObj__onMessageReceived(Node("a"), message)
    assert len(log) == 5
    b._SyncObj__onMessageReceived(Node("a"), message | {"entries": entries[:1]})
    assert len(log) == 2


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_whoever_connects_has_code_run(tmp_path: Path) -> None:  # RCE
    port = PortPicker().pick()
    conf = SyncObjConf(autoTick=False, bindAddress=f"127.0.0.1:{port}")
    node = SyncObj(f"127.0.0.1:{port}", [], conf=conf)
    frame = zlib.compress(pickle.dumps(Bomb(tmp_path / "owned")))
    with socket.create_connection(("127.0.0.1", port)) as attacker:
        attacker.sendall(struct.pack("i", len(frame)) + frame)
        deadline = time.monotonic() + 10
        while not (tmp_path / "owned").exists():
            assert time.monotonic() < deadline
            node.doTick(0.01)
    node.destroy()
