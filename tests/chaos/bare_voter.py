"""A voter on PySyncObj as shipped, for the chaos tests: ``python bare_voter.py SETTINGS``.

Settings and what it answers are those of ``constellation_core.testing.consensus.voter``, and what
stands on the engine there (the state, the service for clients) stands on the library here, which is
used as its documentation says: journal and dump file, dynamic membership, writes answered
when their callback is called, and reads from the memory of the node that says it leads, since
the library has no others. What the library reports as failed counts as not known, so that
nothing is held against it which it did not acknowledge.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any, cast

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, SyncObjConsumer, replicated
from pysyncobj.journal import FileJournal

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import (
    Engine,
    EngineStatus,
    NotLeader,
    Role,
    Unavailable,
    Unknown,
    Voter,
)
from constellation_core.consensus.remote import ConsensusService
from constellation_core.consensus.state import Answer, Query, ReplicatedState
from constellation_core.testing.consensus.control import serving
from constellation_core.testing.consensus.record import Record
from constellation_core.testing.consensus.sockets import SocketCaller, serve
from constellation_core.testing.consensus.voter import kill_at

_PROPOSAL = 5.0

BALLAST = 2_000_000
"""Bytes that make the state one of some size (a store may have 16 MiB): to dump it takes a while,
in which writes are acknowledged."""


class Machine(SyncObjConsumer):  # type: ignore[misc]
    """Carries out operations; what it holds is dumped and restored by the library."""

    def __init__(self, inner: Record | ReplicatedState, lock: threading.Lock) -> None:
        super().__init__()
        # Attributes that were there before are not the library's to dump.
        self.inner = inner
        self.lock = lock

    def _serialize(self) -> dict[str, Any]:
        return {"state": self.inner.snapshot(), "ballast": os.urandom(BALLAST)}

    def _deserialize(self, data: dict[str, Any]) -> None:
        with self.lock:
            self.inner.restore(data["state"])

    @replicated  # type: ignore[untyped-decorator]
    def apply(self, operation: bytes) -> bytes:
        with self.lock:
            index = self._syncObj.raftLastApplied + 1
            return self.inner.apply(index, operation) if operation else b""


def kill_before_trim(count: int) -> None:
    """The process ends when the library begins to trim its journal for the count-th time."""
    trim, kill = FileJournal.deleteEntriesTo, kill_at("trim", count)

    def delete(journal: FileJournal, index: int) -> None:
        kill("trim")
        trim(journal, index)

    FileJournal.deleteEntriesTo = delete


class Program:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._ids = {address: voter for voter, address in settings["voters"]}
        me = f"{settings['host']}:{settings['port']}"
        self._me = self._ids[me]
        self._lock = threading.Lock()
        inner = Record() if settings["machine"] == "record" else ReplicatedState()
        self._machine = Machine(inner, self._lock)
        sockets = {voter: Path(socket) for voter, socket in settings["sockets"].items()}
        # All that it needs of an engine is the status.
        self._service = ConsensusService(cast(Engine, self), self, SocketCaller(sockets))
        directory, timing = Path(settings["directory"]), settings["timing"]
        self._raft = SyncObj(
            me,
            [address for address in self._ids if address != me],
            consumers=[self._machine],
            conf=SyncObjConf(
                journalFile=str(directory / "journal"),
                fullDumpFile=str(directory / "dump"),
                dynamicMembershipChange=True,
                appendEntriesUseBatch=False,
                raftMinTimeout=timing["election_min"],
                raftMaxTimeout=timing["election_max"],
                appendEntriesPeriod=timing["heartbeat"],
                logCompactionMinEntries=timing["compact_entries"],
                connectionRetryTime=0.5,
            ),
        )

    async def answer(self, word: str, value: bytes) -> list[Any]:
        """Outcome and value."""
        match word:
            case "propose":
                return await self._propose(value, _PROPOSAL)
            case "barrier":
                if not self._leads():
                    return ["NotLeader", ""]
                return await self._propose(b"", _PROPOSAL)
            case "serve":
                return await serve(self._service, value)
            case "standing":
                with self._lock:
                    return ["done", self._machine.inner.snapshot()]
            case "status":
                role = "leader" if self._leads() else "follower"
                others = [each.address for each in self._raft.otherNodes]
                return ["done", json.dumps({"role": role, "voters": [self._me, *others]})]
            case "add":
                return await self._add(value.decode().split()[1])
        raise ValueError(word)

    def _leads(self) -> bool:
        return bool(self._raft._isLeader()) and bool(self._raft.isReady())

    async def _propose(self, operation: bytes, timeout: float) -> list[Any]:
        return await self._outcome(
            lambda callback: self._machine.apply(operation, callback=callback), timeout
        )

    # What the service for clients asks of an engine and of the way to the state.

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(Role.LEADER if self._leads() else Role.FOLLOWER, self._me)

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        outcome, result = await self._propose(operation, timeout)
        if outcome != "done":
            raise Unknown(str(result))
        return bytes(result)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        if linearizable and not self._leads():
            leader = self._raft._getLeader()
            known = self._ids.get(leader.address) if leader is not None else None
            raise NotLeader(Voter(known, leader.address) if known else None)
        assert isinstance(self._machine.inner, ReplicatedState)
        with self._lock:
            return self._machine.inner.answer(query)

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        raise Unavailable("nobody looks after leases here")

    async def _add(self, address: str) -> list[Any]:
        return await self._outcome(
            lambda callback: self._raft.addNodeToCluster(address, callback=callback), _PROPOSAL
        )

    async def _outcome(self, ask: Any, timeout: float) -> list[Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Any]] = loop.create_future()

        def settle(outcome: list[Any]) -> None:
            if not done.done():
                done.set_result(outcome)

        def callback(result: Any, reason: int) -> None:
            outcome = ["done", result] if reason == FAIL_REASON.SUCCESS else ["Unknown", reason]
            loop.call_soon_threadsafe(settle, outcome)

        ask(callback)
        try:
            async with asyncio.timeout(timeout):
                return await done
        except TimeoutError:
            return ["Unknown", "no answer in time"]


async def main(settings: dict[str, Any]) -> None:
    if settings["fault"]:
        kill_before_trim(settings["fault"][1])
    program = Program(settings)
    async with serving(Path(settings["socket"]), program.answer):
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
