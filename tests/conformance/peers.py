"""The nodes that ours must understand: a Go program on memberlist 0.2.2, and Serf 0.9.4."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from constellation_core.gossip import Keyring
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.messages import PushPull
from constellation_core.gossip.serf import UserEvent
from constellation_core.gossip.wire import read_message, write_message
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.waiting import until
from tests.conformance.programs import PATIENCE, Program, from_text, go_program, to_text

QUICK_GO = (
    "-probe-interval=300ms",
    "-probe-timeout=150ms",
    "-suspicion=3",
)
"""Notices a dead node in about a second and a half."""


@dataclass(frozen=True)
class Place:
    """Where a peer listens, and what it needs to take part.

    Attributes:
        host, port: its address.
        key: of the cluster; ``None`` for an open one.
        folder: for its files.
    """

    host: str
    port: int
    key: bytes | None
    folder: Path


class Peer(Protocol):
    """A real node of another implementation."""

    name: str
    place: Place

    async def join(self, seed: str) -> None:
        """Join the node at ``HOST:PORT``."""

    async def alive(self) -> set[str]:
        """The names of the members that it holds to be alive, its own included."""

    async def wait_for(self, name: str, state: str, timeout: float = PATIENCE) -> None:
        """Wait until a member is ``alive``, ``failed`` or ``left`` in its view."""

    async def metadata(self, name: str) -> Mapping[str, str] | bytes:
        """What it knows of a member: words at Serf, bytes at memberlist."""

    async def leave(self) -> None:
        """Leave gracefully."""

    async def kill(self) -> None:
        """End it at once (SIGKILL)."""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""

    async def conflicts(self, name: str) -> int:
        """How many claims of a name it has refused."""


async def told_states(place: Place) -> dict[str, str]:
    """What a node says of all members in a push/pull, also of those that are gone.

    memberlist tells its application whether a member left or failed only in this way.
    """
    envelope = Envelope(Keyring([place.key]) if place.key is not None else None)
    reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        await write_message(writer, PushPull(False, ()), envelope)
        reply, _ = await read_message(reader, envelope)
    finally:
        writer.close()
    assert isinstance(reply, PushPull)
    return {row.name: ("alive", "suspect", "failed", "left")[row.state] for row in reply.rows}


def seed(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class GoPeer:
    """The Go program."""

    def __init__(self, name: str, place: Place, program: Program) -> None:
        self.name = name
        self.place = place
        self.program = program
        self.signal = program.signal
        self.kill = program.kill

    @classmethod
    async def start(cls, name: str, place: Place, *arguments: str) -> GoPeer:
        """Start it; ``arguments`` are its own flags."""
        if place.key is not None:
            key_file = place.folder / f"{name}.key"
            key_file.write_text(to_text(place.key))
            arguments = (*arguments, f"-key-file={key_file}")
        flags = (f"-name={name}", f"-bind={place.host}", f"-port={place.port}")
        log = place.folder / f"{name}.log"
        program = await Program.start([go_program(), *flags, *arguments], log)
        return cls(name, place, program)

    async def join(self, seed: str) -> None:
        await self.program.command("join", seed)

    async def members(self) -> dict[str, Mapping[str, Any]]:
        """Whom it holds to be alive or suspect, by name."""
        await self.program.command("members")
        return {member["name"]: member for member in self.program.said("members")[-1]["members"]}

    async def alive(self) -> set[str]:
        return set(await self.members())

    async def wait_for(self, name: str, state: str, timeout: float = PATIENCE) -> None:
        async def so() -> bool:
            return (await told_states(self.place)).get(name) == state

        explain = self.program.log_end
        await until(so, timeout, f"{name} to be {state} at {self.name}", explain=explain)

    async def metadata(self, name: str) -> bytes:
        return from_text((await self.members())[name]["meta"])

    async def send(self, name: str, data: bytes, *, reliable: bool = False) -> None:
        """Send a user message to a member by UDP, or by TCP when it is to be reliable."""
        await self.program.command("reliable" if reliable else "send", name, to_text(data))

    async def until_message(self, data: bytes) -> None:
        """Wait for a user message."""
        await self.program.until("message", data=to_text(data))

    async def leave(self) -> None:
        await self.program.command("leave")

    async def conflicts(self, name: str) -> int:
        return len(self.program.said("conflict", name=name))


class SerfPeer:
    """A Serf agent, asked through its own commands."""

    def __init__(self, name: str, place: Place, rpc: str, process: asyncio.subprocess.Process):
        self.name = name
        self.place = place
        self._rpc = rpc
        self._process = process

    @classmethod
    async def start(
        cls, name: str, place: Place, rpc_port: int, settings: Mapping[str, object]
    ) -> SerfPeer:
        """Start it with more settings than those that the place makes."""
        rpc = f"127.0.0.1:{rpc_port}"
        events = place.folder / f"{name}.events"
        events.touch()
        all_settings = {
            "node_name": name,
            "bind": seed(place.host, place.port),
            "rpc_addr": rpc,
            "log_level": "debug",
            # A line for each event: its name and its payload.
            "event_handlers": [
                f'user=echo "$SERF_USER_EVENT" "$(base64 -w0)" >> {events}',
            ],
            **settings,
        }
        if place.key is not None:
            keys = place.folder / f"{name}.keys"
            keys.write_text(json.dumps([to_text(place.key)]))
            all_settings["keyring_file"] = str(keys)
        config = place.folder / f"{name}.json"
        config.write_text(json.dumps(all_settings))
        process = await start_child(
            [shutil.which("serf") or "serf", "agent", f"-config-file={config}"],
            log_file=place.folder / f"{name}.log",
        )
        peer = cls(name, place, rpc, process)
        try:
            await until(peer._answers, PATIENCE, f"Serf {name} to answer", explain=peer.log_end)
        except BaseException:
            await peer.kill()
            raise
        return peer

    async def command(self, *words: str, may_fail: bool = False) -> str:
        """What ``serf WORDS`` prints; fails the test when it fails, unless it may."""
        process = await asyncio.create_subprocess_exec(
            "serf",
            words[0],
            f"-rpc-addr={self._rpc}",
            *words[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert may_fail or process.returncode == 0, (words[0], output.decode())
        return output.decode()

    async def join(self, seed: str) -> None:
        await self.command("join", seed)

    async def members(self) -> dict[str, Mapping[str, Any]]:
        """All that it knows, by name."""
        listed = json.loads(await self.command("members", "-format=json"))["members"]
        return {member["name"]: member for member in listed}

    async def alive(self) -> set[str]:
        return {
            name for name, member in (await self.members()).items() if member["status"] == "alive"
        }

    async def wait_for(self, name: str, state: str, timeout: float = PATIENCE) -> None:
        async def so() -> bool:
            return (await self.members()).get(name, {}).get("status") == state

        await until(so, timeout, f"{name} to be {state} at {self.name}", explain=self.log_end)

    async def metadata(self, name: str) -> Mapping[str, str]:
        tags: Mapping[str, str] = (await self.members())[name]["tags"]
        return tags

    def heard(self) -> list[UserEvent]:
        """The user events that its handler was called for."""
        lines = (self.place.folder / f"{self.name}.events").read_text().splitlines()
        fields = [line.partition(" ") for line in lines]
        # Serf ends what a handler reads with a newline.
        return [
            UserEvent(name, base64.b64decode(payload).removesuffix(b"\n"))
            for name, _, payload in fields
        ]

    async def until_event(self, event: UserEvent) -> None:
        """Wait for a user event."""

        async def found() -> bool:
            return event in self.heard()

        await until(found, PATIENCE, f"the event {event.name}", explain=self.log_end)

    async def leave(self) -> None:
        await self.command("leave")

    async def conflicts(self, name: str) -> int:
        return self.log().count(f"Conflicting address for {name}.")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await stop_child(self._process, 1.0)

    def log(self) -> str:
        """What it wrote."""
        return (self.place.folder / f"{self.name}.log").read_text(errors="replace")

    def log_end(self) -> str:
        """The end of that, without the lines that its own commands make."""
        lines = [line for line in self.log().splitlines() if "agent.ipc" not in line]
        return "\n" + "\n".join(lines[-40:])

    async def _answers(self) -> bool:
        assert self._process.returncode is None, self.log_end()
        return self.name in await self.command("members", may_fail=True)
