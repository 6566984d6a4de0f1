"""A voter as a program: ``python -m constellation_core.testing.consensus.voter SETTINGS``.

It answers on a Unix socket: a request is MessagePack ``[number, word, bytes]`` behind four bytes
of length, an answer ``[number, outcome, value]``. ``SETTINGS`` is a JSON file::

    {"directory": ..., "socket": ..., "host": ..., "port": ..., "keys": [hex, ...],
     "timing": {...}, "fault": [name, count] or null, "file_size": bytes or null}

With ``fault`` the process kills itself when that fault point is passed for the count-th time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgpack

from constellation_core.consensus.engine import EngineSettings, RaftEngine, Timing
from constellation_core.consensus.files import FaultPoint, no_faults
from constellation_core.consensus.interface import ConsensusError, NotLeader
from constellation_core.testing.consensus.record import Record


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


async def write_frame(writer: asyncio.StreamWriter, fields: list[Any]) -> None:
    """Send one request or answer."""
    data: bytes = msgpack.packb(fields)
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> list[Any]:
    """Receive one.

    Raises:
        asyncio.IncompleteReadError: the other side is gone.
    """
    length = int.from_bytes(await reader.readexactly(4), "big")
    fields: list[Any] = msgpack.unpackb(await reader.readexactly(length))
    return fields


async def _answer(engine: RaftEngine, record: Record, word: str, value: bytes) -> list[Any]:
    try:
        match word:
            case "propose":
                return ["done", await engine.propose(value, timeout=5)]
            case "barrier":
                return ["done", await engine.barrier(timeout=5)]
            case "standing":
                return ["done", await engine.read(record.snapshot)]
            case "status":
                return ["done", json.dumps(asdict(engine.status))]
            case _:
                return ["error", word]
    except NotLeader as error:
        return ["NotLeader", error.hint.id if error.hint else ""]
    except ConsensusError as error:
        return [type(error).__name__, str(error)]


async def _main(settings: dict[str, Any]) -> None:
    faults = kill_at(*settings["fault"]) if settings["fault"] else no_faults
    if settings["file_size"]:
        # As a full disk does, this ends writes with an error; here with EFBIG.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_size"], resource.RLIM_INFINITY))
    record = Record()
    engine = RaftEngine(
        EngineSettings(
            Path(settings["directory"]),
            (settings["host"], settings["port"]),
            [bytes.fromhex(key) for key in settings["keys"]],
            Timing(**settings["timing"]),
        ),
        record,
        faults,
    )
    await engine.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def one(number: int, word: str, value: bytes) -> None:
            outcome = await _answer(engine, record, word, value)
            with contextlib.suppress(OSError):
                await write_frame(writer, [number, *outcome])

        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            async with asyncio.TaskGroup() as tasks:
                while True:
                    tasks.create_task(one(*await read_frame(reader)))
        writer.close()

    async with await asyncio.start_unix_server(serve, settings["socket"]) as server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(json.loads(Path(sys.argv[1]).read_text())))
