"""The engine: a thread that runs the replica, seen from asyncio.

The thread owns everything of the replica, transport and files. The event loop hands it calls
through a queue, and gets answers through ``call_soon_threadsafe``; there is no lock. Whatever
goes wrong on the thread halts the voter for good: it closes its connections, answers what
waits, and says why in its status. A voter that is not sure is silent; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from constellation_core.consensus.engine.clock import boottime
from constellation_core.consensus.engine.commands import (
    NO_OP_COMMAND,
    Change,
    apply_command,
    change_command,
    parse_voter,
)
from constellation_core.consensus.engine.journal import RESERVE
from constellation_core.consensus.engine.peers import Peers
from constellation_core.consensus.engine.proposals import Answer, Proposal
from constellation_core.consensus.engine.replica import Replica
from constellation_core.consensus.engine.storage import Storage, open_storage
from constellation_core.consensus.engine.timing import Timing
from constellation_core.consensus.engine.transport import Handlers, Transport
from constellation_core.consensus.files import FaultPoint, no_faults
from constellation_core.consensus.interface import (
    ConsensusError,
    Corrupt,
    EngineStatus,
    MembershipRefused,
    Role,
    StateMachine,
    Unavailable,
    Unknown,
    Voter,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MAX_CALLS = 16_384
_VIEW_INTERVAL = 0.05
_TELL_INTERVAL = 0.01
"""Seconds; the first entry after a while is told at once."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine needs to know.

    Attributes:
        directory: made by :func:`~.storage.create`.
        bind: IP literal and port to listen on; there is no default.
        cluster_keys: the current cluster key of 32 bytes, then those still accepted.
        timing: timeouts.
        turn: seconds that the thread waits at most before it looks at its timers.
    """

    directory: Path
    bind: tuple[str, int]
    cluster_keys: Sequence[bytes]
    timing: Timing = field(default_factory=Timing)
    turn: float = 0.2

    def __repr__(self) -> str:
        return f"<EngineSettings {self.directory} {self.bind}>"


class RaftEngine:
    """The built-in :class:`~constellation_core.consensus.interface.Engine`.

    Args:
        settings: where, and with which key.
        machine: the state machine; called on the engine's thread only.
        faults: fault points, for tests.
    """

    def __init__(
        self, settings: EngineSettings, machine: StateMachine, faults: FaultPoint = no_faults
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._faults = faults
        self._status = EngineStatus(Role.STOPPED, "")
        self._listeners: list[Callable[[int], None]] = []
        self._calls: queue.SimpleQueue[Callable[[Replica], None]] = queue.SimpleQueue()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._answers: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
        self._standing: Hashable = None
        self._told = 0
        self._view_due = 0.0
        self._tell_due = 0.0
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._transport: Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """See the interface."""
        if self._thread is not None:
            raise Unavailable("an engine is started once")
        self._loop = asyncio.get_running_loop()
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            storage, transport, replica = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on: what it opens has to be closed all the same.
            opening.add_done_callback(_close)
            raise
        self._transport = transport
        self._status = replica.view(0)
        self._told = replica.applied()
        self._thread = threading.Thread(
            target=self._run, args=(storage, transport, replica), name="consensus", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """See the interface."""
        self._stopping.set()
        if self._thread is not None and self._transport is not None:
            self._transport.wake()
            await asyncio.to_thread(self._thread.join)

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """See the interface."""
        answer = await self._propose(apply_command(operation), None, timeout)
        if not isinstance(answer, bytes):
            raise TypeError("a state machine's result is bytes")
        return answer

    async def barrier(self, *, timeout: float) -> int:
        """See the interface."""
        answer = await self._propose(NO_OP_COMMAND, None, timeout)
        if not isinstance(answer, int):
            raise TypeError("the result of a no-op is its index")
        return answer

    async def read(self, query: Callable[[], T]) -> T:
        """See the interface."""
        return await self._call(lambda _: query())

    @property
    def status(self) -> EngineStatus:
        """See the interface."""
        return self._status

    def on_applied(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """See the interface."""
        self._listeners.append(listener)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return end

    async def add_voter(self, voter: Voter, *, timeout: float) -> None:
        """See the interface."""
        try:
            parse_voter([voter.id, voter.address])
        except ValueError as error:
            raise MembershipRefused(str(error)) from error
        await self._change(Change("add", voter), timeout)

    async def remove_voter(self, voter_id: str, *, timeout: float) -> None:
        """See the interface."""
        known = {voter.id: voter for voter in self._status.voters}
        if voter_id not in known:
            raise MembershipRefused(f"{voter_id} is not a voter")
        await self._change(Change("remove", known[voter_id]), timeout)

    async def transfer_leadership(self, voter_id: str | None = None) -> None:
        """See the interface."""
        await self._call(lambda replica: replica.ask_transfer(voter_id))

    # On the event loop.

    async def _change(self, change: Change, timeout: float) -> None:
        await self._propose(change_command(change), change, timeout)

    async def _propose(self, command: bytes, change: Change | None, timeout: float) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answer(given: Answer) -> None:
            failed = given if isinstance(given, ConsensusError) else None
            self._answers.append((future, given, failed))

        self._post(lambda replica: replica.propose(Proposal(command, answer, change)))
        return await self._wait(future, timeout)

    async def _call(self, act: Callable[[Replica], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def run(replica: Replica) -> None:
            try:
                self._answers.append((future, act(replica), None))
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                self._answers.append((future, None, error))

        self._post(run)
        return await self._wait(future, None)

    def _post(self, call: Callable[[Replica], None]) -> None:
        if self._transport is None or self._ended.is_set() or self._stopping.is_set():
            raise Unavailable(self._status.failure or "the engine is not running")
        if self._calls.qsize() >= _MAX_CALLS:
            raise Unavailable("the engine is overloaded")
        self._calls.put(call)
        self._transport.wake()

    async def _wait(self, future: asyncio.Future[T], timeout: float | None) -> T:
        self._waiting.add(future)
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                return await future
        except TimeoutError:
            if not deadline.expired():
                raise
            raise Unknown("no result in time") from None
        finally:
            self._waiting.discard(future)

    def _settle(self, answers: Sequence[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
        for future, given, error in answers:
            if future.done():
                continue
            if error is None:
                future.set_result(given)
            else:
                future.set_exception(error)

    def _give_up(self) -> None:
        """The thread has ended: what it did not take up, it never will."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(Unavailable(self._status.failure or "the engine has stopped"))

    def _applied(self, index: int) -> None:
        for listener in list(self._listeners):
            listener(index)

    # On the engine's thread.

    def _open(self) -> tuple[Storage, Transport, Replica]:
        storage = open_storage(self._settings.directory, faults=self._faults, reserve=RESERVE)
        try:
            if storage.snapshot is not None:
                try:
                    self._machine.restore(storage.snapshot.state)
                except ValueError as error:
                    raise Corrupt(f"the snapshot's state cannot be read: {error}") from error
            peers = Peers(storage.identity, self._settings.cluster_keys)
            transport = Transport(self._settings.bind, peers, storage.journal.sync, boottime)
            try:
                replica = Replica(
                    storage, self._machine, transport, self._settings.timing, boottime, self._faults
                )
            except BaseException:
                transport.close()
                raise
        except BaseException:
            storage.close()
            raise
        transport.attach(Handlers(replica.connected, replica.disconnected, replica.receive))
        return storage, transport, replica

    def _run(self, storage: Storage, transport: Transport, replica: Replica) -> None:
        failure: str | None = None
        try:
            while not self._stopping.is_set():
                transport.poll(self._patience(replica))
                # What came is acknowledged before what is committed is carried out.
                transport.flush()
                self._take_calls(replica)
                replica.turn()
                self._deliver()
                transport.flush()
                self._publish(replica, transport.refused)
        except BaseException as error:  # noqa: BLE001 - whatever it is, this voter is silent now
            failure = f"{type(error).__name__}: {error}"
            _log.critical("this voter has halted: %s", failure, exc_info=error)
        finally:
            transport.close()
            role = Role.STOPPED if failure is None else Role.FAILED
            self._status = replace(self._status, role=role, leader=None, failure=failure)
            self._take_calls(replica)
            replica.abandon(failure or "the engine has stopped")
            self._deliver()
            storage.close()
            self._ended.set()
            self._in_loop(self._give_up)

    def _take_calls(self, replica: Replica) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            call(replica)

    def _deliver(self) -> None:
        """Give the answers of a turn to those who wait; before it syncs, which takes its time."""
        if self._answers:
            answers, self._answers = self._answers, []
            self._in_loop(lambda: self._settle(answers))

    def _publish(self, replica: Replica, refused: int) -> None:
        now, standing = time.monotonic(), replica.standing()
        if standing != self._standing or now >= self._view_due:
            self._standing, self._view_due = standing, now + _VIEW_INTERVAL
            self._status = replica.view(refused)
        if replica.applied() != self._told and now >= self._tell_due:
            self._told, self._tell_due = replica.applied(), now + _TELL_INTERVAL
            if self._listeners:
                self._in_loop(partial(self._applied, self._told))

    def _patience(self, replica: Replica) -> float:
        longest = self._settings.turn
        if replica.applied() != self._told:
            longest = max(0.0, min(longest, self._tell_due - time.monotonic()))
        return replica.patience(longest)

    def _in_loop(self, call: Callable[[], None]) -> None:
        # The loop may be closed already when a program ends.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)


def _close(opening: asyncio.Future[tuple[Storage, Transport, Replica]]) -> None:
    """Close what was opened for nobody."""
    if not opening.cancelled() and opening.exception() is None:
        storage, transport, _ = opening.result()
        transport.close()
        storage.close()
