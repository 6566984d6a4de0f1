"""A group of voter processes under load, to be killed, paused, cut off and damaged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

from constellation_core.consensus.engine import Identity, Timing, create
from constellation_core.consensus.interface import Voter
from constellation_core.consensus.leases import LeaseTimes
from constellation_core.consensus.state import ReplicatedState
from constellation_core.testing.child import start_child
from constellation_core.testing.consensus.control import Client, Gone
from constellation_core.testing.consensus.record import Standing, standing
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.namespaces import NamespaceNetwork
from constellation_core.testing.waiting import NotInTimeError, until

BRISK = Timing(
    election_min=0.4, election_max=0.8, heartbeat=0.1, leader_patience=0.8, compact_entries=30
)
"""Quick elections, and a compaction every few entries: the windows that crashes must hit."""

BRISK_TIMES = LeaseTimes(ttl=2.0, grace=0.3, gather=0.1)
"""Leases that pass on quickly."""

_PORT = 7947


@dataclass(frozen=True, slots=True)
class Program:
    """What a voter runs.

    Attributes:
        argv: its command line; the path of the settings follows.
        create: makes the data directory, as :func:`constellation_core.consensus.engine.create`.
    """

    argv: tuple[str | Path, ...]
    create: Callable[[Path, Identity, tuple[Voter, ...] | None, bytes], None]


ENGINE = Program((sys.executable, "-m", "constellation_core.testing.consensus.voter"), create)


@dataclass(slots=True)
class VoterProcess:
    """One voter: its directory, and the process when it runs.

    Attributes:
        host: where it runs, if the group has hosts.
        booted: so many seconds ago its machine was booted, by the clocks that it will see when
            it is started next; ``None``: those of this machine.
    """

    voter: Voter
    home: Path
    host: str = ""
    booted: float | None = None
    process: asyncio.subprocess.Process | None = None
    client: Client | None = None
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def data(self) -> Path:
        """The engine's directory."""
        return self.home / "data"

    @property
    def control(self) -> Path:
        """Where its process listens for the test."""
        return self.home / "control"

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
    """Voters. Use as an async context manager: no process remains.

    Args:
        root: an empty directory.
        size: how many voters there are at first.
        timing: of the engine.
        machine: what they drive: a :class:`~.record.Record`, or the real state with leases.
        times: of these leases.
        hosts: one for each voter, also for those that join later; else all are on loopback.
        program: what they run.
    """

    def __init__(
        self,
        root: Path,
        size: int = 3,
        timing: Timing = BRISK,
        *,
        machine: Literal["record", "state"] = "record",
        times: LeaseTimes = BRISK_TIMES,
        hosts: NamespaceNetwork | None = None,
        program: Program = ENGINE,
    ) -> None:
        self._root = root
        self._timing = timing
        self._machine = machine
        self.times = times
        self._hosts = hosts
        self._program = program
        self._ports = PortPicker()
        self._made = 0
        self._state = ReplicatedState().snapshot() if machine == "state" else b""
        self.cluster = uuid4()
        self.key = bytes(range(32))
        self.tally = Tally()
        placed = [self._place() for _ in range(size)]
        voters = tuple(voter for voter, _ in placed)
        self.voters = [self._make(voter, host, voters) for voter, host in placed]

    async def __aenter__(self) -> CrashGroup:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for each in self.voters:
            await self.kill(each)

    def _place(self) -> tuple[Voter, str]:
        """A new voter, and where it is to run."""
        self._made += 1
        if self._hosts is None:
            return Voter(str(uuid4()), f"127.0.0.1:{self._ports.pick()}"), ""
        host = self._hosts.names[self._made - 1]
        return Voter(str(uuid4()), f"{self._hosts.address(host)}:{_PORT}"), host

    def _make(self, voter: Voter, host: str, voters: tuple[Voter, ...] | None) -> VoterProcess:
        made = VoterProcess(voter, self._root / voter.id[:8], host)
        made.data.mkdir(parents=True)
        identity = Identity(self.cluster, UUID(voter.id))
        self._program.create(made.data, identity, voters, self._state)
        return made

    def join(self) -> VoterProcess:
        """Another voter, with nothing yet, to be started and then added by the leader."""
        made = self._make(*self._place(), None)
        self.voters.append(made)
        return made

    def wipe(self, lost: VoterProcess) -> VoterProcess:
        """The machine comes back with an empty disk: another voter at the same address."""
        shutil.rmtree(lost.data)
        address = lost.voter.address
        lost.voter = Voter(str(uuid4()), address)
        lost.data.mkdir()
        identity = Identity(self.cluster, UUID(lost.voter.id))
        self._program.create(lost.data, identity, None, self._state)
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
                "socket": str(each.control),
                "host": host,
                "port": int(port),
                "keys": [self.key.hex()],
                "voters": [[one.voter.id, one.voter.address] for one in self.voters],
                "sockets": {one.voter.id: str(one.control) for one in self.voters},
                "timing": asdict(self._timing),
                "times": asdict(self.times),
                "machine": self._machine,
                "fault": fault,
                "file_size": file_size,
            }
            path = each.home / "settings.json"
            path.write_text(json.dumps(settings))
            each.control.unlink(missing_ok=True)
            each.process = await start_child(
                self._command(each, [*self._program.argv, path]), log_file=each.home / "log"
            )

    def _command(self, each: VoterProcess, argv: list[str | Path]) -> list[str | Path]:
        if self._hosts is not None:
            argv = self._hosts.command(each.host, argv)
        if each.booted is not None:
            offset = str(round(each.booted))
            unshare = shutil.which("unshare") or "unshare"
            return [unshare, "--time", "--monotonic", offset, "--boottime", offset, "--", *argv]
        return argv

    def pause(self, *which: VoterProcess) -> None:
        """Stop them where they stand."""
        for each in which:
            if each.process is not None:
                each.process.send_signal(signal.SIGSTOP)

    def resume(self, *which: VoterProcess) -> None:
        """Let them go on."""
        for each in which:
            if each.process is not None and each.process.returncode is None:
                each.process.send_signal(signal.SIGCONT)

    async def kill(self, *which: VoterProcess) -> None:
        """kill -9, all at once, and wait until they are gone."""
        for each in which:
            if each.runs and each.process is not None:
                each.process.kill()
        for each in which:
            if each.process is not None:
                await each.process.wait()
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
                whom.client = await Client.connect(whom.control)
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

    async def leader(
        self, timeout: float = 30, *, among: Sequence[VoterProcess] = ()
    ) -> VoterProcess:
        """A voter that leads: it has just committed something. By default any."""

        async def find() -> VoterProcess | None:
            for each in among or self.voters:
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
        assert await self.faults() == []

    async def faults(self, timeout: float = 30) -> list[str]:
        """What is wrong with what the voters carried out, in words.

        Raises:
            NotInTimeError: they do not come equally far.
        """
        await self.leader(timeout)
        standings = await self.standings(timeout)
        chains = {each.chain for each in standings}
        found = [f"{len(chains)} different histories"] if len(chains) > 1 else []
        for each in standings:
            lost = sorted(number for number in self.tally.acknowledged if not each.has(number))
            if lost:
                found.append(f"{len(lost)} of {len(self.tally.acknowledged)} lost: {lost[:10]}")
            if each.twice:
                found.append(f"{each.twice} done twice")
        return found

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
