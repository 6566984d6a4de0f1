"""Wants a lease again and again, and writes under it: a program, to be paused and killed.

``python -m constellation_core.testing.consensus.holder SETTINGS``, with a JSON file::

    {"name": ..., "voters": {id: socket, ...}, "sink": socket, "times": {...}, "first": number,
     "writes": [least, most]}

It tells the sink (:mod:`.contenders`) what it believes and what it writes, by the clock that all
processes of this machine share. The sink's answers may hold an order: ``stop`` has it stopped
between the check of the lease and the write, ``wall`` and ``sleep`` move its clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from random import SystemRandom
from typing import Any

import msgpack

from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.leases import (
    Lease,
    LeaseLost,
    Leases,
    LeaseTimes,
    ThreadWatchdog,
    holder_id,
)
from constellation_core.consensus.requests import Requests
from constellation_core.testing.consensus.clocks import MovableClocks
from constellation_core.testing.consensus.control import Client
from constellation_core.testing.consensus.sockets import socket_access

LEASE = "dns-writer"

_CLAIM = 0.05


class _Program:
    def __init__(self, settings: dict[str, Any], sink: Client) -> None:
        self._random = SystemRandom()
        self._clocks = MovableClocks()
        self._sink = sink
        self._writes: tuple[int, int] = tuple(settings["writes"])
        self._holder = holder_id(settings["name"], self._random)
        sockets = {voter: Path(path) for voter, path in settings["voters"].items()}
        access, _ = socket_access(sockets, settings["first"])
        clock = SystemBootClock()
        self._leases = Leases(
            access,
            Requests(access, clock, self._random),
            clock,
            self._random,
            ThreadWatchdog(),
            holder=self._holder,
            times=LeaseTimes(**settings["times"]),
        )

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                async with self._leases.hold(LEASE) as lease, asyncio.TaskGroup() as tasks:
                    claiming = tasks.create_task(self._claim_often(lease, lease.epoch))
                    await self._write(lease)
                    claiming.cancel()
            except* LeaseLost:
                await self._tell("lost", 0)
            await asyncio.sleep(self._random.uniform(0.05, 0.2))

    async def _write(self, lease: Lease) -> None:
        await self._tell("entered", lease.epoch)
        for _ in range(self._random.randint(*self._writes)):
            orders = await self._claim("about to write", lease, lease.epoch)
            for order in orders:
                if order != "stop":
                    self._clocks.move(order)
            lease.check()
            epoch = lease.epoch
            if "stop" in orders:
                # Nothing is awaited from the check to the write.
                os.kill(os.getpid(), signal.SIGSTOP)
            await self._tell("write", epoch)
            await asyncio.sleep(self._random.uniform(0.01, 0.05))

    async def _claim_often(self, lease: Lease, epoch: int) -> None:
        with contextlib.suppress(LeaseLost):
            while True:
                await self._claim("claim", lease, epoch)
                await asyncio.sleep(_CLAIM)

    async def _claim(self, word: str, lease: Lease, epoch: int) -> list[str]:
        """Tell that the lease is held; the orders that come back."""
        # Before the check: whoever is sure now was so a moment ago, since the block had begun.
        now = time.monotonic()
        lease.check()
        return await self._tell(word, epoch, now)

    async def _tell(self, word: str, epoch: int, at: float = 0.0) -> list[str]:
        value: bytes = msgpack.packb([self._holder, epoch, at])
        _, orders = await self._sink.ask(word, value)
        return list(orders)


async def _main(settings: dict[str, Any]) -> None:
    sink = await Client.connect(Path(settings["sink"]))
    await _Program(settings, sink).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(json.loads(Path(sys.argv[1]).read_text())))
