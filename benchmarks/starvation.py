"""Too little CPU: by the quota of a control group, or by stopping processes in turns."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Protocol

_ROOT = Path("/sys/fs/cgroup")
_LEAST_QUOTA = 1_000
_PERIOD = 1_000_000
"""Microseconds; the longest that there is, so that a process stands still for as long as can be."""
_CYCLE = 1.0
_NUMBERS = count()


class Starvation(Protocol):
    """A way to give processes too little CPU.

    Attributes:
        name: what it is, for the output.
    """

    name: str

    async def starve(self, pids: Iterable[int], cores: float, seconds: float) -> None:
        """Let the processes have ``cores`` of CPU together, for so long."""


def find_starvation() -> Starvation:
    """The best way that this machine offers."""
    for make in (CgroupV2, CgroupV1):
        way = make()
        try:
            with way.group():
                return way
        except OSError:
            continue
    return Pauses()


class CgroupV1:
    """The quota of Linux's scheduler, through the first version of control groups."""

    name = "CPU quota of a control group (v1)"
    _controller = "cpu"

    def __init__(self) -> None:
        self._parent = _ROOT / "cpu"

    @contextlib.contextmanager
    def group(self) -> Iterator[Path]:
        """A group of its own, empty again and gone afterwards."""
        if not (self._parent / "cgroup.procs").exists():
            raise FileNotFoundError(errno.ENOENT, f"{self._parent} is no control group")
        folder = self._parent / f"constellation-{os.getpid()}-{next(_NUMBERS)}"
        folder.mkdir()
        try:
            self.limit(folder, 1.0)
            yield folder
        finally:
            folder.rmdir()

    def limit(self, folder: Path, cores: float) -> None:
        """Set the quota."""
        (folder / "cpu.cfs_period_us").write_text(str(_PERIOD))
        (folder / "cpu.cfs_quota_us").write_text(str(max(_LEAST_QUOTA, int(cores * _PERIOD))))

    async def starve(self, pids: Iterable[int], cores: float, seconds: float) -> None:
        """As :meth:`Starvation.starve`."""
        with self.group() as folder:
            self.limit(folder, cores)
            homes = {pid: _home(pid, self._parent, self._controller) for pid in pids}
            try:
                for pid in homes:
                    (folder / "cgroup.procs").write_text(str(pid))
                await asyncio.sleep(seconds)
            finally:
                for pid, home in homes.items():
                    with contextlib.suppress(ProcessLookupError):
                        (home / "cgroup.procs").write_text(str(pid))


class CgroupV2(CgroupV1):
    """The same through the second version of control groups."""

    name = "CPU quota of a control group (v2)"
    _controller = ""

    def __init__(self) -> None:
        self._parent = _ROOT
        control = _ROOT / "cgroup.subtree_control"
        if control.exists():
            with contextlib.suppress(OSError):
                control.write_text("+cpu")

    def limit(self, folder: Path, cores: float) -> None:
        """Set the quota."""
        (folder / "cpu.max").write_text(f"{max(_LEAST_QUOTA, int(cores * _PERIOD))} {_PERIOD}")


class Pauses:
    """Stopping and continuing all of them, where there are no control groups."""

    name = "SIGSTOP and SIGCONT in turns"

    async def starve(self, pids: Iterable[int], cores: float, seconds: float) -> None:
        """As :meth:`Starvation.starve`: each runs for its share of every second."""
        waiting = list(pids)
        runs = min(0.9, max(0.01, cores / len(waiting)))
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        try:
            while loop.time() < end:
                _signal(waiting, signal.SIGSTOP)
                await asyncio.sleep(_CYCLE * (1 - runs))
                _signal(waiting, signal.SIGCONT)
                await asyncio.sleep(_CYCLE * runs)
        finally:
            _signal(waiting, signal.SIGCONT)


def _home(pid: int, root: Path, controller: str) -> Path:
    """The group that a process is in."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return root / path.lstrip("/")
    return root


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
