"""A voter as a program: ``python -m constellation_core.testing.consensus.voter SETTINGS``.

It answers on a Unix socket, see :mod:`.control`. ``SETTINGS`` is a JSON file::

    {"directory": ..., "socket": ..., "host": ..., "port": ..., "keys": [hex, ...],
     "voters": [[id, address], ...], "sockets": {id: socket, ...}, "timing": {...}, "times": {...},
     "machine": "record" or "state", "fault": [name, count] or null, "file_size": bytes or null}

With ``fault`` the process kills itself when that fault point is passed for the count-th time.
The machine is a :class:`~.record.Record`, or the real one, with the leader's duties for leases and
the service for clients.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import EngineSettings, RaftEngine, Timing
from constellation_core.consensus.files import FaultPoint, no_faults
from constellation_core.consensus.interface import ConsensusError, NotLeader, Voter
from constellation_core.consensus.leases import LeaseDuties, LeaseTimes
from constellation_core.consensus.remote import ConsensusService
from constellation_core.consensus.state import ReplicatedState
from constellation_core.testing.consensus.clocks import MovableClocks
from constellation_core.testing.consensus.control import serving
from constellation_core.testing.consensus.record import Record
from constellation_core.testing.consensus.sockets import SERVE, SocketCaller, serve

_CHANGE = 10.0
_PROPOSAL = 5.0


def kill_at(name: str, count: int) -> FaultPoint:
    """A fault point that kills the process when ``name`` is passed for the ``count``-th time."""
    passed = 0

    def reach(point: str) -> None:
        nonlocal passed
        if point == name:
            passed += 1
            if passed == count:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


class _Program:
    """Answers for one voter."""

    def __init__(
        self,
        engine: RaftEngine,
        machine: Record | ReplicatedState,
        times: LeaseTimes,
        sockets: Mapping[str, Path],
    ) -> None:
        self._engine = engine
        self._machine = machine
        self._clocks = MovableClocks()
        self._service: ConsensusService | None = None
        self.duties: LeaseDuties | None = None
        if isinstance(machine, ReplicatedState):
            self.duties = LeaseDuties(engine, machine, SystemBootClock(), times)
            access = LocalAccess(engine, machine, self.duties.renew)
            self._service = ConsensusService(engine, access, SocketCaller(sockets))

    async def answer(self, word: str, value: bytes) -> list[Any]:
        """Outcome and value."""
        try:
            if word == SERVE and self._service is not None:
                return await serve(self._service, value)
            return ["done", await self._ask(word, value)]
        except NotLeader as error:
            return ["NotLeader", error.hint.id if error.hint else ""]
        except ConsensusError as error:
            return [type(error).__name__, str(error)]

    async def _ask(self, word: str, value: bytes) -> Any:
        engine = self._engine
        match word:
            case "propose":
                return await engine.propose(value, timeout=_PROPOSAL)
            case "barrier":
                return await engine.barrier(timeout=_PROPOSAL)
            case "standing":
                return await engine.read(self._machine.snapshot)
            case "status":
                return json.dumps(asdict(engine.status))
            case "add":
                return await engine.add_voter(Voter(*value.decode().split()), timeout=_CHANGE)
            case "remove":
                return await engine.remove_voter(value.decode(), timeout=_CHANGE)
            case "transfer":
                return await engine.transfer_leadership(value.decode() or None)
            case "clock":
                return self._clocks.move(value.decode())
        raise ValueError(word)


async def _main(settings: dict[str, Any]) -> None:
    faults = kill_at(*settings["fault"]) if settings["fault"] else no_faults
    if settings["file_size"]:
        # As a full disk does, this ends writes with an error; here with EFBIG.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_size"], resource.RLIM_INFINITY))
    machine = Record() if settings["machine"] == "record" else ReplicatedState()
    engine = RaftEngine(
        EngineSettings(
            Path(settings["directory"]),
            (settings["host"], settings["port"]),
            [bytes.fromhex(key) for key in settings["keys"]],
            Timing(**settings["timing"]),
        ),
        machine,
        faults,
    )
    await engine.start()
    sockets = {voter: Path(socket) for voter, socket in settings["sockets"].items()}
    program = _Program(engine, machine, LeaseTimes(**settings["times"]), sockets)
    async with serving(Path(settings["socket"]), program.answer):
        if program.duties is not None:
            await program.duties.run()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(json.loads(Path(sys.argv[1]).read_text())))
