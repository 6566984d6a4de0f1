"""Runs the gossip protocol on asyncio: UDP and TCP on one port."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from constellation_core.gossip import echo
from constellation_core.gossip.actions import Action, Delegate, Exchange, ExchangeFailed
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.datagrams import DatagramSocket
from constellation_core.gossip.dialling import ask_echo, exchange
from constellation_core.gossip.keyring import DecryptError, Keyring
from constellation_core.gossip.member import Address, Member, is_everywhere
from constellation_core.gossip.messages import DecodeError, ErrorReply, PushPull, UserMessage
from constellation_core.gossip.protocol import Protocol
from constellation_core.gossip.rpc.endpoint import StreamEndpoint
from constellation_core.gossip.rpc.opening import StreamOpen
from constellation_core.gossip.rpc.server import Accepted
from constellation_core.gossip.rpc.settings import StreamSettings
from constellation_core.gossip.sockets import bind, plain_host, resolve
from constellation_core.gossip.streams import StreamMessage
from constellation_core.gossip.unreadable import UnreadableLog
from constellation_core.gossip.wire import read_message, write_message
from constellation_core.model.node import NodeState

log = logging.getLogger("constellation.gossip")

_MOST_CONNECTIONS = 128
_WARN_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class JoinResult:
    """How one attempt to join went.

    Attributes:
        seed: the address as it was given.
        joined: whether whole views were exchanged.
        reason: why not.
        wrong_key: the seed has another cluster key.
    """

    seed: str
    joined: bool
    reason: str = ""
    wrong_key: bool = False


class Gossip:
    """A node of a gossip cluster on real sockets.

    ::

        gossip = Gossip(GossipConfig("node-a"), bind=("127.0.0.1", 7946), keyring=Keyring([key]))
        await gossip.start()
        await gossip.join(["127.0.0.1:7947"])
        ...
        await gossip.leave()
        await gossip.close()

    Args:
        config: timing and names.
        bind: IP literal and port to listen on; port 0 takes a free one.
        advertise: address that others reach this node at; ``None`` when it is ``bind``, which
            must not be all addresses then. Port 0 stands for the bound port.
        keyring: encrypts everything; ``None`` for an open cluster.
        delegate: what rides on the gossip.
        meta: up to 512 bytes that others see of this node.
        incarnation: where this node's own numbers begin. Must be above every one that it has
            used before; the wall clock in seconds, the default, is.
        rng: all chance comes from it.
        may_advertise: for a node that is bound to all addresses: whether it may take the address
            at which it is reached first for its own. Without it, ``advertise`` stays.
        streams: limits of :attr:`streams`.

    Raises:
        ValueError: when nobody can reach what it would advertise.
    """

    def __init__(
        self,
        config: GossipConfig,
        *,
        bind: Address,
        advertise: Address | None = None,
        keyring: Keyring | None = None,
        delegate: Delegate | None = None,
        meta: bytes = b"",
        incarnation: int | None = None,
        rng: Random | None = None,
        may_advertise: Callable[[str], bool] | None = None,
        streams: StreamSettings | None = None,
    ) -> None:
        host = (advertise or bind)[0]
        if is_everywhere(host):
            raise ValueError(f"nobody can reach {host}: advertise an address that others can")
        self._config = config
        self._bind = bind
        self._advertise = advertise
        self._keyring = keyring
        self._delegate = delegate
        self._meta = meta
        self._incarnation = int(time.time()) if incarnation is None else incarnation
        self._rng = rng or Random()
        self._protocol: Protocol | None = None
        self._datagrams: DatagramSocket | None = None
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._exchanges: set[asyncio.Task[None]] = set()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._unreadable = UnreadableLog()
        self._may_advertise = may_advertise
        self._echo_id = os.urandom(echo.ID_LENGTH)
        self.streams = StreamEndpoint(config.name, lambda: self.protocol.envelope, streams)
        """Request and response, and streams of messages, with other nodes."""

    @property
    def protocol(self) -> Protocol:
        """The state machine, for reading; changes go through this class."""
        if self._protocol is None:
            raise RuntimeError("the gossip is not started")
        return self._protocol

    @property
    def local(self) -> Member:
        """This node, as others see it."""
        return self.protocol.table.local

    def members(self) -> list[Member]:
        """All known members, by name; those that are dead or left too, until forgotten."""
        return sorted(self.protocol.table.all(), key=lambda member: member.name)

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen and begin to gossip.

        Raises:
            GossipBindError: when the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        tcp, udp = bind(self._bind, backlog=_MOST_CONNECTIONS)
        port = tcp.getsockname()[1]
        host, advertised = self._advertise or (self._bind[0], 0)
        local = Member(
            self._config.name,
            (host, advertised or port),
            self._incarnation,
            NodeState.ALIVE,
            loop.time(),
            self._meta,
            self._config.versions,
        )
        try:
            self._protocol = Protocol(
                self._config,
                local,
                now=loop.time(),
                rng=self._rng,
                keyring=self._keyring,
                delegate=self._delegate,
            )
            self._datagrams = DatagramSocket(udp, self._datagram_received, self._flush)
            self._server = await asyncio.start_server(self._serve, sock=tcp)
            self._protocol.start(loop.time())
        except BaseException:
            await self.close()
            tcp.close()
            udp.close()
            raise
        self._flush()

    async def join(self, seeds: Sequence[str]) -> list[JoinResult]:
        """Exchange views with each of ``seeds`` (``HOST:PORT``); tells how each attempt went."""
        return list(await asyncio.gather(*(self._join(seed) for seed in seeds)))

    async def ask_echo(self, seeds: Sequence[str]) -> list[echo.Echo]:
        """How each of ``seeds`` sees this node's address; those that do not answer are left out."""
        envelope, timeout = self.protocol.envelope, self._config.exchange_timeout / 2
        asked = await asyncio.gather(
            *(ask_echo(seed, envelope, self._echo_id, timeout) for seed in seeds)
        )
        return [answered for answered in asked if answered is not None]

    def advertise(self, host: str) -> None:
        """Let others reach this node at ``host``, an IP literal, while it knows nobody else.

        Raises:
            ValueError: when it knows other members already.
        """
        self.protocol.move(host, asyncio.get_running_loop().time())

    async def request(self, member: Member, payload: bytes) -> bytes:
        """Send a request of the application to ``member`` and wait for the answer.

        Raises:
            ConnectionError: when there is no answer; the text says why.
        """
        reply = await self._request(member, payload, wants_reply=True)
        return getattr(reply, "payload", b"")

    def send(self, member: Member, payload: bytes) -> None:
        """Send bytes of the application by UDP: once, so that they may be lost.

        Raises:
            ValueError: when they do not fit one datagram.
        """
        most = self._config.datagram_size - self.protocol.envelope.overhead - 1
        if len(payload) > most:
            raise ValueError(f"{len(payload)} bytes do not fit a datagram, which takes {most}")
        self.protocol.send(member.address, UserMessage(payload))
        self._flush()

    async def send_reliable(self, member: Member, payload: bytes) -> None:
        """Send bytes of the application over TCP, to a member that gives no answer.

        Raises:
            ConnectionError: when they could not be sent; the text says why.
        """
        await self._request(member, payload, wants_reply=False)

    async def leave(self, timeout: float = 3.0) -> None:
        """Say goodbye, and wait until it has been gossiped, at most ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        self.protocol.leave(loop.time())
        self._flush()
        pause = self._config.gossip_interval / 2
        for _ in range(math.ceil(timeout / pause)):
            if self.protocol.goodbye_sent:
                break
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Stop at once, without a goodbye. Harmless when not started."""
        if self._protocol is not None:
            self._protocol.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        for task in self._exchanges:
            task.cancel()
        # asyncio's server reports a cancelled handler as an error: let it end by itself.
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._exchanges, *self._connections, return_exceptions=True)
        await self.streams.close()
        if self._datagrams is not None:
            self._datagrams.close()
        if self._server is not None:
            await self._server.wait_closed()

    def set_meta(self, meta: bytes) -> None:
        """Change what others see of this node."""
        self.protocol.set_meta(meta, asyncio.get_running_loop().time())
        self._flush()

    def remember(self, addresses: set[Address]) -> None:
        """Addresses of nodes from an earlier life, to be tried until they answer."""
        self.protocol.remember(addresses)

    def flush(self) -> None:
        """Carry out what a delegate asked of :attr:`protocol` outside of a callback."""
        self._flush()

    # --- UDP and time ------------------------------------------------------------------------

    def _datagram_received(self, data: bytes, source: Address) -> None:
        now = asyncio.get_running_loop().time()
        self.protocol.on_datagram(data, source, now)
        unreadable = self.protocol.stats.undecryptable.get(source[0])
        if unreadable is not None and unreadable.last == now:
            self._unreadable.warn(source[0], now)

    def _poll(self) -> None:
        if self._datagrams is not None:
            # An answer that is here already counts, however late this process is to read it.
            self._datagrams.drain()
        try:
            self.protocol.poll(asyncio.get_running_loop().time())
        finally:
            # Without this, an exception of the delegate would stop the clock.
            self._flush()

    def _flush(self) -> None:
        for action in self.protocol.take_actions():
            self._carry_out(action)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.protocol.next_deadline()
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._poll)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Exchange):
            task = asyncio.create_task(self._exchange(action))
            self._exchanges.add(task)
            task.add_done_callback(self._exchanges.discard)
        elif self._datagrams is not None:
            host, port = action.address
            if ":" in self._bind[0] and ":" not in host:
                # A socket bound to :: speaks IPv4 in this form only.
                host = f"::ffff:{host}"
            self._datagrams.send(action.data, (host, port))

    # --- TCP, outgoing -----------------------------------------------------------------------

    async def _request(self, member: Member, payload: bytes, *, wants_reply: bool) -> StreamMessage:
        future: asyncio.Future[StreamMessage | ExchangeFailed] = _future()
        self.protocol.request(
            member, payload, lambda reply: _resolve(future, reply), wants_reply=wants_reply
        )
        self._flush()
        reply = await future
        if isinstance(reply, ExchangeFailed):
            raise ConnectionError(reply.reason)
        return reply

    async def _join(self, seed: str) -> JoinResult:
        try:
            address = await resolve(seed)
        except OSError as error:
            return JoinResult(seed, False, f"cannot resolve it: {error.strerror or error}")
        future: asyncio.Future[ExchangeFailed | None] = _future()
        self.protocol.sync(address, lambda failed: _resolve(future, failed), join=True)
        self._flush()
        failed = await future
        if failed is None:
            return JoinResult(seed, True)
        return JoinResult(seed, False, failed.reason, failed.wrong_key)

    async def _exchange(self, action: Exchange) -> None:
        reply = await exchange(action, self.protocol)
        self.protocol.on_reply(action.token, reply, asyncio.get_running_loop().time())
        self._flush()

    # --- TCP, incoming -----------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _MOST_CONNECTIONS:
            writer.close()
            return
        self._connections[task] = writer
        accepted: Accepted | None = None
        try:
            # For all that comes from who has not proved yet that it has the key.
            async with asyncio.timeout(self._config.exchange_timeout):
                accepted = await self._answer(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            # Whoever does not read its answer must not keep it here.
            writer.transport.abort()
        finally:
            del self._connections[task]
            if accepted is None:
                writer.close()
        if accepted is not None:
            await self.streams.run(accepted)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Accepted | None:
        stats = self.protocol.stats
        source = plain_host(writer.get_extra_info("peername")[0])
        answer: StreamMessage | None
        try:
            request, size = await read_message(reader, self.protocol.envelope)
        except DecryptError:
            stats.count_undecryptable(source, asyncio.get_running_loop().time())
            self._unreadable.warn(source, asyncio.get_running_loop().time())
            # Encrypted with our key, so that a joiner with another one can tell what is wrong.
            answer = ErrorReply("no key opens the request")
        except DecodeError as error:
            stats.malformed += 1
            answer = ErrorReply(str(error))
        else:
            stats.streams_in.add(request.TYPE, size)
            if isinstance(request, StreamOpen):
                return await self.streams.accept(request, (reader, writer))
            if isinstance(request, UserMessage) and echo.is_question(request.payload):
                answer = UserMessage(echo.answer(source, self._echo_id))
                await write_message(writer, answer, self.protocol.envelope, answer=True)
                return None
            if isinstance(request, PushPull):
                self._take_address(plain_host(writer.get_extra_info("sockname")[0]))
            answer = self.protocol.on_request(request, asyncio.get_running_loop().time())
            self._flush()
        if answer is not None:
            size = await write_message(writer, answer, self.protocol.envelope, answer=True)
            stats.streams_out.add(answer.TYPE, size)
        return None

    def _take_address(self, host: str) -> None:
        """The first node of a cluster learns from its first visitor where it is reached."""
        protocol = self.protocol
        if (
            self._may_advertise is not None
            and host != protocol.table.local.address[0]
            and len(protocol.table.all()) == 1
            and self._may_advertise(host)
        ):
            log.info("reached at %s: this is the address that other nodes are told", host)
            self.advertise(host)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _resolve(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)
