"""Hosts of their own on one machine: Linux network namespaces, and what can go wrong between them.

::

    with NamespaceNetwork(["a", "b", "c"]) as network:
        start_child(network.command("a", ["ping", network.address("b")]), ...)
        network.split(["a"], ["b", "c"])
        network.drop("b", "c", protocol="udp")      # one direction, one protocol
        network.heal()

Needs root, and ``ip``, ``nsenter`` and ``iptables``; :func:`why_no_namespaces` says what is
missing. Nothing outside of the namespaces can be reached from within, nor the other way; files,
unix sockets among them, are shared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

_TOOLS = ("ip", "nsenter", "iptables")
_FOLDER = Path("/run/netns")
_TIMEOUT = 20.0
_NUMBERS = count()
_MOST = 250


class NamespaceError(RuntimeError):
    """A namespace could not be made or changed; the text has the command and what it said."""


def why_no_namespaces() -> str:
    """Why there can be none on this machine; ``""`` when there can."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; on Debian: apt-get install iproute2 iptables"
    try:
        with NetworkNamespace() as namespace:
            namespace.run("iptables", "-S")
    except NamespaceError as error:
        return str(error)
    return ""


def why_no_time_namespaces() -> str:
    """Why no process can have a clock since the boot of its own; ``""`` when one can."""
    if sys.platform != "linux":
        return "time namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "time namespaces need root"
    try:
        _run("unshare", "--time", "--monotonic", "1", "--boottime", "1", "--", "true")
    except NamespaceError as error:
        return str(error)
    return ""


class NetworkNamespace:
    """A namespace with a loopback interface; exists from entering to leaving."""

    def __init__(self) -> None:
        # Other processes may make some at the same time.
        self.name = f"cst-{os.getpid()}-{next(_NUMBERS)}"

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        try:
            _run("ip", "-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete it; its interfaces go when the last process in it has ended."""
        if (_FOLDER / self.name).exists():
            _run("ip", "netns", "del", self.name)

    def command(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """A command line that runs ``argv`` in it, as the same process."""
        nsenter = shutil.which("nsenter") or "nsenter"
        return [nsenter, f"--net={_FOLDER / self.name}", "--", *argv]

    def run(self, *argv: str) -> str:
        """Run a program in it, to its end; what it writes.

        Raises:
            NamespaceError: when it fails.
        """
        return _run(*map(str, self.command(argv)))

    def bytes_sent(self, interface: str = "lo") -> int:
        """What an interface has sent so far, in bytes; on loopback with the headers from IP on."""
        lines = self.run("cat", "/proc/net/dev").splitlines()
        for line in lines:
            name, _, numbers = line.partition(":")
            if name.strip() == interface:
                return int(numbers.split()[8])
        raise NamespaceError(f"{self.name} has no interface {interface}")


class NamespaceNetwork:
    """Namespaces that are joined by a bridge, which stands in one more.

    Args:
        names: of the hosts, at most 250.
        prefix: the first three numbers of their addresses, which no one else sees.
    """

    def __init__(self, names: Sequence[str], *, prefix: str = "10.203.7") -> None:
        if len(names) > _MOST:
            raise ValueError(f"at most {_MOST} hosts")
        self._addresses = {name: f"{prefix}.{number}" for number, name in enumerate(names, 1)}
        self._hosts = {name: NetworkNamespace() for name in names}
        self._switch = NetworkNamespace()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self._switch)
            switch = self._switch.name
            _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
            _run("ip", "-n", switch, "link", "set", "bridge", "up")
            for number, (name, host) in enumerate(self._hosts.items()):
                self._stack.enter_context(host)
                self._plug_in(f"port{number}", host, self._addresses[name])
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """Of the hosts."""
        return list(self._hosts)

    def address(self, name: str) -> str:
        """The IPv4 address of a host."""
        return self._addresses[name]

    def command(self, name: str, argv: Sequence[str | Path]) -> list[str | Path]:
        """A command line that runs ``argv`` on a host, as the same process."""
        return self._hosts[name].command(argv)

    # --- what goes wrong ---------------------------------------------------------------------

    def drop(
        self, source: str, target: str, *, protocol: Literal["udp", "tcp"] | None = None
    ) -> None:
        """Lose all that ``source`` sends to ``target``, or all of one protocol."""
        which = ["-p", protocol] if protocol else []
        rule = ["-s", self._addresses[source], *which, "-j", "DROP"]
        self._hosts[target].run("iptables", "-w", "-A", "INPUT", *rule)

    def split(self, *groups: Iterable[str]) -> None:
        """Lose all that hosts of different groups send to each other."""
        sides = [list(group) for group in groups]
        for side in sides:
            for other in sides:
                if other is not side:
                    for source in side:
                        for target in other:
                            self.drop(source, target)

    def heal(self) -> None:
        """Lose nothing any more."""
        for host in self._hosts.values():
            host.run("iptables", "-w", "-F", "INPUT")

    def _plug_in(self, port: str, host: NetworkNamespace, address: str) -> None:
        switch = self._switch.name
        far = ("peer", "name", "eth0", "netns", host.name)
        _run("ip", "-n", switch, "link", "add", port, "type", "veth", *far)
        _run("ip", "-n", switch, "link", "set", port, "master", "bridge", "up")
        _run("ip", "-n", host.name, "address", "add", f"{address}/24", "dev", "eth0")
        _run("ip", "-n", host.name, "link", "set", "eth0", "up")


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NamespaceError(f"{' '.join(argv)}: {error}") from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise NamespaceError(f"{' '.join(argv)}: {said}")
    return done.stdout
