"""Several agents on this host, as processes: a fleet for tests, benchmarks and the demo.

::

    async with LocalCluster(tmp_path, ["a", "b", "c"], services=SERVICES) as cluster:
        await cluster.wait_until_whole()
        await cluster.kill("b")                    # with its services, as a power cut would
        ...
        await cluster.start_node("b")
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import tomlkit

from constellation_core.config import ClusterKey
from constellation_core.config.files import create_file
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.process_tree import kill_tree
from constellation_core.testing.waiting import until

_SETTINGS = {"TS_HOSTNAME", "DOMAIN", "CONFIG_PATH", "SECRETS_PATH"}
_HOST = "127.0.0.1"
_OWNER_ONLY = 0o600
_FILE_MODE = 0o644
_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=5)
_STOP_GRACE = 15.0
# Of the 107 characters that a unix socket's path may have, the rest is for its name.
_LONGEST_FOLDER = 107 - len("/data/agent.sock")


class Hosts(Protocol):
    """Where nodes run: :class:`~constellation_core.testing.namespaces.NamespaceNetwork`, say.

    Their files are those of this host, unix sockets included.
    """

    def address(self, name: str) -> str:
        """The address of a node's host, an IPv4 literal."""

    def command(self, name: str, argv: Sequence[str | Path]) -> Sequence[str | Path]:
        """A command line that runs ``argv`` there, as the same process."""


class NodeEndedError(RuntimeError):
    """An agent ended by itself; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One agent of a local cluster.

    Attributes:
        name: of the node.
        folder: its settings, data and log.
        gossip: ``HOST:PORT``.
        api: URL of its API, without a path.
        consensus: ``HOST:PORT`` for the other voters.
    """

    name: str
    folder: Path
    gossip: str
    api: str
    consensus: str

    @property
    def config_file(self) -> Path:
        """Its agent.toml."""
        return self.folder / "agent.toml"

    @property
    def log_file(self) -> Path:
        """What it logs."""
        return self.folder / "agent.log"


class LocalCluster:
    """Agents on ``127.0.0.1`` or on hosts of their own, on free ports, with one cluster key.

    Entering starts all of them; leaving stops all of them, services included. When the process
    that runs this is killed, they end too.

    Args:
        folder: for all that they write; must exist, and its path have no more than some 80
            characters, since there are unix sockets in it.
        names: of the nodes. Each joins through all others.
        services: text of the services file that every node gets; ``None`` for none.
        plugins: enabled on every node.
        settings: further tables of agent.toml, by name.
        hosts: where they run, if not on ``127.0.0.1``; then their APIs are asked over their
            unix sockets.

    Attributes:
        ports: picks further free ports, of which none is the cluster's.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        services: str | None = None,
        plugins: Sequence[str] = ("process", "monitor"),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._folder = folder
        self._services = services
        self._plugins = plugins
        self._settings = settings or {}
        self._hosts = hosts
        longest = max(len(str(folder / name)) for name in names)
        if longest > _LONGEST_FOLDER:
            raise ValueError(
                f"{folder} is too long for the paths of unix sockets below it, by "
                f"{longest - _LONGEST_FOLDER} characters"
            )
        self.ports = PortPicker(_HOST)
        self.nodes = {
            name: LocalNode(
                name,
                folder / name,
                f"{self._host(name)}:{self.ports.pick()}",
                f"http://{self._host(name)}:{self.ports.pick()}",
                f"{self._host(name)}:{self.ports.pick()}",
            )
            for name in names
        }
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            self._write_files()
            self._session = aiohttp.ClientSession(timeout=_REQUEST_TIMEOUT)
            for name in self.nodes:
                await self.start_node(name)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop all agents, all at once."""
        running, self._running = self._running, {}
        async with asyncio.TaskGroup() as group:
            for process in running.values():
                group.create_task(stop_child(process, _STOP_GRACE))
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- what happens to nodes ---

    async def start_node(self, name: str) -> None:
        """Start an agent that does not run, for the first time or again."""
        if name in self._running:
            raise ValueError(f"{name} runs already")
        node = self.nodes[name]
        # The settings of whoever runs this are not those of the cluster.
        env = {
            key: value
            for key, value in os.environ.items()
            if "CONSTELLATION" not in key and key not in _SETTINGS
        }
        argv: Sequence[str | Path] = [
            sys.executable,
            "-m",
            "constellation_core.agent",
            node.config_file,
        ]
        if self._hosts is not None:
            argv = self._hosts.command(name, argv)
        self._running[name] = await start_child(
            argv,
            log_file=node.log_file,
            env=env,
            cwd=node.folder,
        )

    async def stop_node(self, name: str) -> None:
        """Stop an agent in order: it says goodbye and stops its services."""
        await stop_child(self._running.pop(name), _STOP_GRACE)

    async def kill(self, name: str) -> None:
        """SIGKILL an agent and all that it started, as if its host had lost its power."""
        process = self._running.pop(name)
        if process.returncode is None:
            await asyncio.to_thread(kill_tree, process.pid)
        await process.wait()

    def pid(self, name: str) -> int:
        """The process of a running agent; ``KeyError`` when it does not run."""
        return self._running[name].pid

    @property
    def running(self) -> list[str]:
        """Names of the nodes that were started and not stopped or killed since."""
        return [name for name in self.nodes if name in self._running]

    # --- what they say ---

    async def get(self, name: str, path: str) -> Any:
        """The JSON document at ``path`` of a node's API.

        Raises:
            OSError: when it does not answer with 200.
        """
        if self._session is None:
            raise RuntimeError("the cluster was not entered")
        if self._hosts is not None:
            return await self._over_socket(name, "GET", path)
        url = f"{self.nodes[name].api}{path}"
        try:
            async with self._session.get(url) as answer:
                if answer.status != 200:
                    raise OSError(f"{url} answers {answer.status}")
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"{url} does not answer: {error or type(error).__name__}") from error

    async def missing(self) -> str:
        """What lacks until every running node sees all of them alive and healthy; ``""``: nothing.

        Healthy means: each service has an instance on every running node, and all nodes know
        all of these as healthy.

        Raises:
            NodeEndedError: when a running node's agent has ended by itself.
        """
        running = self.running
        for name in running:
            code = self._running[name].returncode
            if code is not None:
                raise NodeEndedError(f"{name} ended with {code}: {self.log_end(name)}")
        for name in running:
            try:
                members = await self.get(name, "/api/v1/members")
                services = await self.get(name, "/api/v1/services")
                ready = await self.get(name, "/api/v1/status")
            except OSError as error:
                return f"{name} does not answer: {error}"
            alive = {each["name"] for each in members if each["state"] == "alive"}
            if alive != set(running):
                return f"{name} sees as alive: {', '.join(sorted(alive))}"
            if not ready["ready"]:
                return f"{name} is not ready: {'; '.join(ready['not_ready'])}"
            if self._services is not None and not services:
                return f"{name} knows no service"
            for service in services:
                healthy = {
                    each["node"] for each in service["instances"] if each["health"] == "healthy"
                }
                if healthy != set(running):
                    where = ", ".join(sorted(healthy)) or "no node"
                    return f"{name} knows {service['name']} as healthy on {where}"
        return ""

    async def wait_until_whole(self, timeout: float = 30.0) -> None:
        """Wait until :meth:`missing` finds nothing.

        Raises:
            NotInTimeError: after ``timeout`` seconds, with what lacks.
            NodeEndedError: as :meth:`missing`.
        """
        lacking = "not looked yet"

        async def whole() -> bool:
            nonlocal lacking
            lacking = await self.missing()
            return not lacking

        await until(whole, timeout, "a whole cluster", interval=0.1, explain=lambda: lacking)

    async def post(self, name: str, path: str) -> Any:
        """Ask a node for a change, over its unix socket; its answer. Raises as :meth:`get`."""
        return await self._over_socket(name, "POST", path)

    async def _over_socket(self, name: str, method: str, path: str) -> Any:
        socket = self.nodes[name].folder / "data" / "agent.sock"
        connector = aiohttp.UnixConnector(str(socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_REQUEST_TIMEOUT) as session,
                session.request(method, f"http://agent{path}") as answer,
            ):
                if answer.status != 200:
                    raise OSError(f"{path} of {name} answers {answer.status}")
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"{name} does not answer: {error or type(error).__name__}") from error

    def log_end(self, name: str, lines: int = 5) -> str:
        """The last lines that a node logged, in one."""
        log_file = self.nodes[name].log_file
        text = log_file.read_text(errors="replace") if log_file.exists() else ""
        return " | ".join(text.splitlines()[-lines:]) or "its log is empty"

    def _host(self, name: str) -> str:
        return self._hosts.address(name) if self._hosts is not None else _HOST

    # --- files ---

    def _write_files(self) -> None:
        key = ClusterKey.generate().to_file_content()
        for node in self.nodes.values():
            node.folder.mkdir()
            create_file(node.folder / "cluster.key", key, _OWNER_ONLY)
            document = tomlkit.dumps(self._document(node)).encode()
            create_file(node.config_file, document, _FILE_MODE)
            if self._services is not None:
                create_file(node.folder / "services.py", self._services.encode(), _FILE_MODE)

    def _document(self, node: LocalNode) -> dict[str, dict[str, Any]]:
        agent: dict[str, Any] = {"name": node.name, "data_dir": "data"}
        if self._services is not None:
            agent["services"] = "services.py"
        others = [other.gossip for other in self.nodes.values() if other is not node]
        document: dict[str, dict[str, Any]] = {
            "agent": agent,
            "gossip": {"bind": node.gossip, "join": others, "key_file": "cluster.key"},
            "consensus": {"bind": node.consensus},
            "api": {"bind": node.api.removeprefix("http://")},
            "plugins": {"enabled": list(self._plugins)},
        }
        for table, values in self._settings.items():
            document[table] = {**document.get(table, {}), **values}
        return document
