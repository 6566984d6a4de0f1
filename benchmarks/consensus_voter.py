"""A voter as a process: ``python -m benchmarks.consensus_voter SETTINGS.json``.

Runs the engine with the replicated state and the leader's duties for leases, at the timings of
production, and answers clients over TCP: a request is MessagePack ``[number, word, ...]`` behind
four bytes of length, an answer ``[number, outcome, value]``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from benchmarks.frames import Frames
from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import EngineSettings, RaftEngine
from constellation_core.consensus.interface import ConsensusError, NotLeader
from constellation_core.consensus.leases import LeaseDuties, LeaseTimes
from constellation_core.consensus.state import ReplicatedState
from constellation_core.consensus.state.queries import decode_query, encode_answer


class _Voter:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._state = ReplicatedState()
        self._engine = RaftEngine(
            EngineSettings(
                Path(settings["directory"]),
                (settings["host"], settings["port"]),
                [bytes.fromhex(settings["key"])],
            ),
            self._state,
        )
        self._duties = LeaseDuties(self._engine, self._state, SystemBootClock(), LeaseTimes())
        self._access = LocalAccess(self._engine, self._state, self._duties.renew)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, host: str, port: int) -> None:
        await self._engine.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._duties.run())
            server = await asyncio.get_running_loop().create_server(self._connected, host, port)
            async with server:
                await server.serve_forever()

    def _connected(self) -> Frames:
        return Frames(lambda client, request: self._spawn(self._one(client, request)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, client: Frames, request: list[Any]) -> None:
        number, *asked = request
        try:
            answer = ["done", await self._answer(asked)]
        except NotLeader as error:
            answer = ["NotLeader", error.hint.address if error.hint else None]
        except ConsensusError as error:
            answer = [type(error).__name__, str(error)]
        client.send([number, *answer])

    async def _answer(self, request: list[Any]) -> Any:
        match request:
            case ["propose", bytes(operation), timeout]:
                return await self._access.propose(operation, timeout=timeout)
            case ["query", bytes(query), linearizable, wait, timeout]:
                answer = await self._access.query(
                    decode_query(query), linearizable=linearizable, wait=wait, timeout=timeout
                )
                return encode_answer(answer)
            case ["renew", list(epochs), timeout]:
                renewal = await self._access.renew(tuple(epochs), timeout=timeout)
                return [list(renewal.lost), renewal.next_in]
            case ["status"]:
                status = self._engine.status
                return [status.leader.address if status.leader else None, status.applied_index]
        raise ValueError(f"an unknown request {request[:1]}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _settings = json.loads(Path(sys.argv[1]).read_text())
    asyncio.run(_Voter(_settings).run(_settings["host"], _settings["client_port"]))
