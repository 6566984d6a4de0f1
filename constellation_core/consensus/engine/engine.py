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
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from constellation_core.consensus.engine.clock import boottime
from constellation_core.consensus.engine.commands import (
    NO_OP_COMMAND,
    Change,
    apply_command,
    change_command,
    parse_voter,
)
from constellation_core.consensus.engine.peers import Peers
from constellation_core.consensus.engine.proposals import Answer, Proposal
from constellation_core.consensus.engine.replica import Replica, Timing
from constellation_core.consensus.engine.storage import Storage, open_storage
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
    turn: float = 0.05

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
        future: Future[Answer] = Future()

        def answer(given: Answer) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(given)

        self._post(lambda replica: replica.propose(Proposal(command, answer, change)))
        given = await self._wait(future, timeout)
        if isinstance(given, ConsensusError):
            raise given
        return given

    async def _call(self, act: Callable[[Replica], T]) -> T:
        future: Future[T] = Future()

        def run(replica: Replica) -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(act(replica))
                except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                    future.set_exception(error)

        self._post(run)
        return await self._wait(future, None)

    def _post(self, call: Callable[[Replica], None]) -> None:
        if self._transport is None or self._ended.is_set() or self._stopping.is_set():
            raise Unavailable(self._status.failure or "the engine is not running")
        if self._calls.qsize() >= _MAX_CALLS:
            raise Unavailable("the engine is overloaded")
        self._calls.put(call)
        self._transport.wake()

    async def _wait(self, future: Future[T], timeout: float | None) -> T:
        """Wait for an answer from the thread, also for its end, after which none comes."""
        waiting = asyncio.wrap_future(future)
        try:
            async with asyncio.timeout(timeout):
                while not waiting.done():
                    if self._ended.is_set():
                        # What the thread took up, it answered before its end.
                        if future.done():
                            return future.result()
                        raise Unavailable(self._status.failure or "the engine has stopped")
                    await asyncio.wait([waiting], timeout=1.0)
                return waiting.result()
        except TimeoutError:
            raise Unknown("no result in time") from None
        finally:
            future.cancel()

    def _applied(self, index: int) -> None:
        for listener in list(self._listeners):
            listener(index)

    # On the engine's thread.

    def _open(self) -> tuple[Storage, Transport, Replica]:
        storage = open_storage(self._settings.directory, faults=self._faults)
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
                transport.poll(0.0 if replica.busy() else self._settings.turn)
                self._take_calls(replica)
                replica.turn()
                transport.flush()
                self._publish(replica.view(transport.refused))
        except BaseException as error:  # noqa: BLE001 - whatever it is, this voter is silent now
            failure = f"{type(error).__name__}: {error}"
            _log.critical("this voter has halted: %s", failure, exc_info=error)
        finally:
            transport.close()
            role = Role.STOPPED if failure is None else Role.FAILED
            self._status = replace(self._status, role=role, leader=None, failure=failure)
            self._take_calls(replica)
            replica.abandon(failure or "the engine has stopped")
            storage.close()
            self._ended.set()

    def _take_calls(self, replica: Replica) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            call(replica)

    def _publish(self, status: EngineStatus) -> None:
        before, self._status = self._status.applied_index, status
        if status.applied_index != before and self._listeners and self._loop is not None:
            # The loop may be closed already when a program ends.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._applied, status.applied_index)


def _close(opening: asyncio.Future[tuple[Storage, Transport, Replica]]) -> None:
    """Close what was opened for nobody."""
    if not opening.cancelled() and opening.exception() is None:
        storage, transport, _ = opening.result()
        transport.close()
        storage.close()
