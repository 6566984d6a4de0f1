"""A group of voter processes under load, to be killed, paused and damaged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from constellation_core.consensus.engine import Identity, Timing, create
from constellation_core.consensus.interface import Voter
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.consensus.record import Standing, standing
from constellation_core.testing.consensus.voter import read_frame, write_frame
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import NotInTimeError, until

BRISK = Timing(
    election_min=0.4, election_max=0.8, heartbeat=0.1, leader_patience=0.8, compact_entries=60
)
"""Quick elections, and a compaction every few entries: the windows that crashes must hit."""


class Gone(Exception):  # noqa: N818
    """The voter does not answer any more; what was asked may be done."""


class Client:
    """A connection to one voter's control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[list[Any]]] = {}
        self._number = 0
        self._task = asyncio.create_task(self._read())

    async def ask(self, word: str, value: bytes = b"") -> list[Any]:
        """Outcome and value.

        Raises:
            Gone: there was no answer.
        """
        if self._task.done():
            raise Gone
        self._number += 1
        number = self._number
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        try:
            await write_frame(self._writer, [number, word, value])
            return await asyncio.wait_for(future, 15)
        except (OSError, TimeoutError) as error:
            raise Gone from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the connection."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while True:
                number, *answer = await read_frame(self._reader)
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Gone())


@dataclass(slots=True)
class VoterProcess:
    """One voter: its directory, and the process when it runs."""

    voter: Voter
    home: Path
    process: asyncio.subprocess.Process | None = None
    client: Client | None = None
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def data(self) -> Path:
        """The engine's directory."""
        return self.home / "data"

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.returncode is None


@dataclass(slots=True)
class Tally:
    """What a load saw: numbers of operations by outcome."""

    acknowledged: set[int] = field(default_factory=set)
    proposed: int = 0
    unknown: int = 0


class CrashGroup:
    """Voters on loopback. Use as an async context manager: no process remains."""

    def __init__(self, root: Path, size: int = 3, timing: Timing = BRISK) -> None:
        self._root = root
        self._timing = timing
        self._ports = PortPicker()
        self.cluster = uuid4()
        self.key = bytes(range(32))
        self.tally = Tally()
        voters = tuple(self._voter() for _ in range(size))
        self.voters = [self._make(voter, voters) for voter in voters]

    async def __aenter__(self) -> CrashGroup:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for each in self.voters:
            await self.kill(each)

    def _voter(self) -> Voter:
        return Voter(str(uuid4()), f"127.0.0.1:{self._ports.pick()}")

    def _make(self, voter: Voter, voters: tuple[Voter, ...] | None) -> VoterProcess:
        made = VoterProcess(voter, self._root / voter.id[:8])
        made.data.mkdir(parents=True)
        create(made.data, Identity(self.cluster, UUID(voter.id)), voters, b"")
        return made

    def wipe(self, lost: VoterProcess) -> VoterProcess:
        """The machine comes back with an empty disk: another voter at the same address."""
        shutil.rmtree(lost.data)
        address = lost.voter.address
        lost.voter = Voter(str(uuid4()), address)
        lost.data.mkdir()
        create(lost.data, Identity(self.cluster, UUID(lost.voter.id)), None, b"")
        return lost

    async def start(
        self,
        *which: VoterProcess,
        fault: tuple[str, int] | None = None,
        file_size: int | None = None,
    ) -> None:
        """Start voters, by default all that do not run; see the program for ``fault``."""
        for each in which or [each for each in self.voters if not each.runs]:
            host, _, port = each.voter.address.rpartition(":")
            settings: Mapping[str, Any] = {
                "directory": str(each.data),
                "socket": str(each.home / "control"),
                "host": host,
                "port": int(port),
                "keys": [self.key.hex()],
                "timing": asdict(self._timing),
                "fault": fault,
                "file_size": file_size,
            }
            path = each.home / "settings.json"
            path.write_text(json.dumps(settings))
            (each.home / "control").unlink(missing_ok=True)
            module = "constellation_core.testing.consensus.voter"
            each.process = await start_child(
                [sys.executable, "-m", module, path], log_file=each.home / "log"
            )

    async def kill(self, *which: VoterProcess) -> None:
        """kill -9, all at once, and wait until they are gone."""
        for each in which:
            if each.process is not None and each.process.returncode is None:
                each.process.send_signal(signal.SIGKILL)
        for each in which:
            if each.process is not None:
                await stop_child(each.process, 5)
            if each.client is not None:
                await each.client.close()
                each.client = None

    async def ask(self, whom: VoterProcess, word: str, value: bytes = b"") -> list[Any]:
        """Ask a voter something.

        Raises:
            Gone: it does not answer.
        """
        async with whom.connecting:
            if whom.client is None:
                try:
                    pair = await asyncio.open_unix_connection(whom.home / "control")
                except OSError as error:
                    raise Gone from error
                whom.client = Client(*pair)
            client = whom.client
        try:
            return await client.ask(word, value)
        except Gone:
            if whom.client is client:
                whom.client = None
                await client.close()
            raise

    async def status(self, whom: VoterProcess) -> dict[str, Any] | None:
        """A voter's status, or ``None`` when it does not answer."""
        try:
            status: dict[str, Any] = json.loads((await self.ask(whom, "status"))[1])
        except Gone:
            return None
        return status

    async def leader(self, timeout: float = 30) -> VoterProcess:
        """A voter that leads: it has just committed something."""

        async def find() -> VoterProcess | None:
            for each in self.voters:
                with contextlib.suppress(Gone):
                    if (await self.ask(each, "barrier"))[0] == "done":
                        return each
            return None

        found = await until(find, timeout, "a leader", explain=self.logs)
        if found is None:
            raise NotInTimeError("a leader")
        return found

    async def standings(self, timeout: float = 30) -> list[Standing]:
        """What every running voter carried out, once all have come equally far."""

        async def equal() -> list[Standing]:
            found = []
            try:
                for each in self.voters:
                    if each.runs:
                        answer = await self.ask(each, "standing")
                        found.append(standing(answer[1]) if answer[0] == "done" else None)
            except Gone:
                return []
            known = [each for each in found if each is not None]
            same = len({each.index for each in known}) == 1 and len(known) == len(found)
            return known if same else []

        return await until(equal, timeout, "equal indexes", explain=self.logs)

    async def check(self) -> None:
        """Nothing that was acknowledged is lost, nothing was done twice, no two differ."""
        await self.leader()
        standings = await self.standings()
        chains = {each.chain for each in standings}
        assert len(chains) == 1, f"{len(chains)} different histories"
        for each in standings:
            lost = sorted(number for number in self.tally.acknowledged if not each.has(number))
            assert not lost, f"{len(lost)} of {len(self.tally.acknowledged)} lost: {lost[:10]}"
            assert each.twice == 0

    @contextlib.asynccontextmanager
    async def load(self, workers: int = 16, size: int = 0) -> AsyncIterator[Tally]:
        """Write all the while, each operation once, to whoever leads."""
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(workers):
                tasks.create_task(self._write(number, b" " + b"x" * size, ending))
            try:
                yield self.tally
            finally:
                ending.set()

    async def _write(self, worker: int, padding: bytes, ending: asyncio.Event) -> None:
        target = worker
        while not ending.is_set():
            voter = self.voters[target % len(self.voters)]
            number = self.tally.proposed
            self.tally.proposed += 1
            try:
                outcome, value = await self.ask(voter, "propose", str(number).encode() + padding)
            except Gone:
                self.tally.unknown += 1
                target += 1
                await asyncio.sleep(0.02)
                continue
            if outcome == "done":
                self.tally.acknowledged.add(number)
                continue
            self.tally.unknown += outcome == "Unknown"
            ids = [each.voter.id for each in self.voters]
            target = ids.index(value) if value in ids else target + 1
            await asyncio.sleep(0.02)

    def logs(self) -> str:
        """The end of every voter's log."""
        parts = []
        for each in self.voters:
            path = each.home / "log"
            text = path.read_text(errors="replace")[-1500:] if path.exists() else ""
            parts.append(f"--- {each.voter.id[:8]} runs={each.runs}\n{text}")
        return "\n".join(parts)
