"""Records the golden frames from real nodes: ``python -m tests.conformance.record_golden``.

Three nodes of one implementation run on loopback, each reachable only through a relay that
notes what passes and changes nothing: a node listens on 127.77.1.N and tells the others
127.77.0.N, where its relay is. They join, send messages, one is paused so that it is suspected
and probed through the others, one leaves, one is killed. Of the datagrams and of what was sent on
each connection some of every shape are kept, as lines of JSON with the bytes in hexadecimal.

It needs Serf, Go and memberlist as the conformance tests do, and a minute. What it writes differs
each time in sequence numbers, incarnations, nonces and in what happens to travel together.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from constellation_core.gossip import encode_tags
from tests.conformance.frames import GOLDEN, GOLDEN_KEY, open_frame
from tests.conformance.lzw_inputs import lzw_inputs
from tests.conformance.peers import GoPeer, Peer, Place, SerfPeer
from tests.conformance.programs import compressed_by_go, to_text

PORT = 7946
_RPC_PORT = 7390
_MOST_OF_A_SHAPE = 2
_MOST_FRAMES = 60
_WORDS = b"the same words again and again, " * 12
_QUICK = ("-probe-interval=300ms", "-probe-timeout=150ms", "-suspicion=3", "-push-pull=2s")


def behind(number: int) -> str:
    """Where a node listens."""
    return f"127.77.1.{number}"


def before(number: int) -> str:
    """Where its relay does."""
    return f"127.77.0.{number}"


class Tape:
    """What passed the relays."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._shapes: Counter[tuple[str, ...]] = Counter()
        self.lines: list[str] = []

    def note(self, via: str, data: bytes) -> None:
        """Keep it, unless there is enough of its shape."""
        if not data:
            return
        try:
            kinds = open_frame(via, data, self._key).kinds
        except Exception as error:  # noqa: BLE001 - kept just because it cannot be read
            kinds = (f"unreadable: {error}",)
        # Views of different sizes are different enough.
        size = len(data) // 100 if via == "tcp" else 0
        shape = (via, str(size), *sorted(set(kinds)))
        self._shapes[shape] += 1
        if self._shapes[shape] <= _MOST_OF_A_SHAPE and len(self.lines) < _MOST_FRAMES:
            self.lines.append(json.dumps({"via": via, "kinds": kinds, "hex": data.hex()}))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, relays: Relays, number: int) -> None:
        self._relays = relays
        self._number = number

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._relays.pass_on(data, addr[0], self._number)


class Relays:
    """One relay before each of ``count`` nodes."""

    def __init__(self, count: int, tape: Tape) -> None:
        self._numbers = range(1, count + 1)
        self._tape = tape
        self._transports: dict[int, asyncio.DatagramTransport] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._numbers:
            self._transports[number], _ = await loop.create_datagram_endpoint(
                lambda number=number: _Datagrams(self, number), (before(number), PORT)
            )
            self._servers.append(
                await asyncio.start_server(
                    lambda reader, writer, number=number: self._accept(reader, writer, number),
                    before(number),
                    PORT,
                )
            )

    async def close(self) -> None:
        for transport in self._transports.values():
            transport.close()
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        # Sockets are closed by the event loop in its next round.
        await asyncio.sleep(0.1)

    def pass_on(self, data: bytes, source: str, number: int) -> None:
        """From the relay of who sent it, so that the answer takes the same way."""
        sender = next((n for n in self._numbers if source in (behind(n), before(n))), None)
        if sender is not None:
            self._tape.note("udp", data)
            self._transports[sender].sendto(data, (behind(number), PORT))

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        task = asyncio.create_task(self._connect(reader, writer, number))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(behind(number), PORT)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = b""
        try:
            while data := await reader.read(65_536):
                passed += data
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()
        self._tape.note("tcp", passed)


Start = Callable[[int, Path], Awaitable[Peer]]


@asynccontextmanager
async def three(start: Start, tape: Tape) -> AsyncIterator[list[Peer]]:
    """Three nodes that know each other through their relays."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        relays = Relays(3, tape)
        stack.push_async_callback(relays.close)
        await relays.start()
        peers = []
        for number in (1, 2, 3):
            peer = await start(number, folder)
            stack.push_async_callback(peer.kill)
            peers.append(peer)
            if number > 1:
                await peer.join(f"{before(number - 1)}:{PORT}")
        for peer in peers:
            for other in peers:
                await peer.wait_for(other.name, "alive")
        yield peers


def go(*flags: str, key: bytes | None, names: Sequence[str] = ("one", "two", "three")) -> Start:
    """Starts a node of the Go program."""

    async def start(number: int, folder: Path) -> Peer:
        name = names[number - 1]
        place = Place(behind(number), PORT, key, folder)
        meta = f"-meta={to_text(encode_tags({'role': name}))}" if number > 1 else "-meta="
        state = f"-state={to_text(b'state of ' + name.encode())}"
        where = f"-advertise={before(number)}"
        return await GoPeer.start(name, place, where, meta, state, *_QUICK, *flags)

    return start


def serf(*, key: bytes | None, compressed: bool) -> Start:
    """Starts a Serf agent."""

    async def start(number: int, folder: Path) -> Peer:
        name = ("one", "two", "three")[number - 1]
        place = Place(behind(number), PORT, key, folder)
        settings = {
            "advertise": f"{before(number)}:{PORT}",
            "enable_compression": compressed,
            "profile": "local",
            "tags": {"role": name},
        }
        return await SerfPeer.start(name, place, _RPC_PORT + number, settings)

    return start


async def live(peers: Sequence[Peer]) -> None:
    """Do all that nodes do."""
    one, two, three = peers
    if isinstance(one, GoPeer) and isinstance(two, GoPeer):
        await one.send(two.name, b"by UDP")
        await one.send(two.name, _WORDS)
        await one.send(two.name, b"by TCP", reliable=True)
        await one.send(two.name, _WORDS, reliable=True)
        await two.program.command("meta", to_text(encode_tags({"role": "changed"})))
    elif isinstance(one, SerfPeer):
        await one.command("event", "deploy", "payload")
        await one.command("event", "large", _WORDS[:300].decode())
        await one.command("query", "-timeout=1s", "question", "payload")
        await one.command("tags", "-set=role=changed")
        if one.place.key is not None:
            await one.command("keys", "-list")
    three.signal(signal.SIGSTOP)
    await one.wait_for(three.name, "failed", 60.0)
    three.signal(signal.SIGCONT)
    await one.wait_for(three.name, "alive")
    # Suspected, killed, and only then declared dead; the other one leaves.
    await three.kill()
    await one.wait_for(three.name, "failed", 60.0)
    await two.leave()
    await one.wait_for(two.name, "left")


async def provoke(place: Place, tape: Tape) -> None:
    """Send what a node refuses, and note its answer."""
    # With a key it takes nothing in clear, and without one nothing that is encrypted.
    refused = b"\x06\x80" if place.key is not None else b"\x0a\0\0\0\x1d" + bytes(29)
    reader, writer = await asyncio.open_connection(place.host, PORT)
    writer.write(refused)
    tape.note("tcp", await reader.read())
    writer.close()


async def record(name: str, start: Start, key: bytes | None) -> None:
    """Make one recording."""
    tape = Tape(key)
    async with three(start, tape) as peers:
        await provoke(peers[0].place, tape)
        await live(peers)
    (GOLDEN / f"{name}.jsonl").write_text("\n".join(tape.lines) + "\n")
    print(f"{name}: {len(tape.lines)} frames")  # noqa: T201


async def record_lzw() -> None:
    """What Go's compress/lzw makes of our inputs, as hashes."""
    inputs = lzw_inputs()
    lines = [
        json.dumps({"bytes": len(each), "compressed": len(out), "sha256": _digest(out)})
        for each, out in zip(inputs, await compressed_by_go(inputs), strict=True)
    ]
    (GOLDEN / "lzw.jsonl").write_text("\n".join(lines) + "\n")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


async def main() -> None:
    """Make all recordings."""
    GOLDEN.mkdir(exist_ok=True)
    await record("go-plain", go("-compress=false", key=None), None)
    # memberlist adds checksums for a node that is called by its address.
    named = (before(1), "two", "three")
    await record("go-compressed-crc", go(key=None, names=named), None)
    await record("go-encrypted", go("-compress=false", key=GOLDEN_KEY), GOLDEN_KEY)
    old = go("-compress=false", "-protocol=1", key=GOLDEN_KEY)
    await record("go-encrypted-protocol-1", old, GOLDEN_KEY)
    await record("serf-plain", serf(key=None, compressed=False), None)
    await record("serf-compressed", serf(key=None, compressed=True), None)
    await record("serf-encrypted", serf(key=GOLDEN_KEY, compressed=False), GOLDEN_KEY)
    await record_lzw()


if __name__ == "__main__":
    asyncio.run(main())
