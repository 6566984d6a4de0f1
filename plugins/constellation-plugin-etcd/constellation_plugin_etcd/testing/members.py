"""Real etcd members as child processes on loopback."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from constellation_core.testing.free_ports import PortPicker


class Members:
    """An etcd cluster in ``folder``. To be stopped by :meth:`kill_all`.

    Args:
        program: ``etcd``, as found on this machine.
        folder: for the members' data and logs.
        count: how many members.
        options: further arguments of each.
        scheme: of the client URLs.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        count: int = 3,
        options: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        ports = PortPicker()
        self._program = program
        self._folder = folder
        self._options = options
        self.names = [f"m{number}" for number in range(1, count + 1)]
        self.urls = {name: f"{scheme}://127.0.0.1:{ports.pick()}" for name in self.names}
        self._peers = {name: f"http://127.0.0.1:{ports.pick()}" for name in self.names}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a member, with the data it has."""
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [
                    self._program,
                    f"--name={name}",
                    f"--data-dir={self._folder / name}",
                    f"--listen-client-urls={self.urls[name]}",
                    f"--advertise-client-urls={self.urls[name]}",
                    f"--listen-peer-urls={self._peers[name]}",
                    f"--initial-advertise-peer-urls={self._peers[name]}",
                    "--initial-cluster=" + ",".join(f"{n}={u}" for n, u in self._peers.items()),
                    *self._options,
                ],
                stdout=log,
                stderr=log,
            )

    def start_all(self) -> None:
        """Start those that do not run."""
        for name in self.names:
            if name not in self._running:
                self.start(name)

    def kill(self, name: str) -> None:
        """Kill a member with SIGKILL; its data stays."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        """Kill those that run."""
        for name in list(self._running):
            self.kill(name)

    def pause(self, name: str) -> None:
        """Stop a member with SIGSTOP."""
        self._running[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._running[name].send_signal(signal.SIGCONT)
