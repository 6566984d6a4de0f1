"""Outgoing connections that carry one message and its answer, as memberlist's do."""

from __future__ import annotations

import asyncio
import os

from constellation_core.gossip import echo
from constellation_core.gossip.actions import Exchange, ExchangeFailed
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.keyring import DecryptError
from constellation_core.gossip.messages import DecodeError, UserMessage
from constellation_core.gossip.protocol import Protocol
from constellation_core.gossip.sockets import plain_host, resolve
from constellation_core.gossip.streams import StreamMessage
from constellation_core.gossip.wire import read_message, write_message

_WRONG_KEY = "it answers, but with another cluster key; copy the cluster's key file to this node"


async def exchange(action: Exchange, protocol: Protocol) -> StreamMessage | ExchangeFailed:
    """Carry out what the protocol asked for, and count it; does not raise."""
    try:
        async with asyncio.timeout(action.timeout):
            return await _talk(action, protocol)
    except TimeoutError:
        return ExchangeFailed(f"no answer within {action.timeout:g} s")
    except DecryptError:
        now = asyncio.get_running_loop().time()
        protocol.stats.count_undecryptable(action.address[0], now)
        return ExchangeFailed(_WRONG_KEY, wrong_key=True)
    except DecodeError as error:
        protocol.stats.malformed += 1
        return ExchangeFailed(f"its answer cannot be read: {error}")
    except asyncio.IncompleteReadError:
        return ExchangeFailed("it closed the connection without an answer")
    except OSError as error:
        return ExchangeFailed(os.strerror(error.errno) if error.errno else str(error))


async def _talk(action: Exchange, protocol: Protocol) -> StreamMessage:
    stats, envelope = protocol.stats, protocol.envelope
    reader, writer = await asyncio.open_connection(*action.address)
    try:
        size = await write_message(writer, action.request, envelope)
        stats.streams_out.add(action.request.TYPE, size)
        if not action.wants_reply:
            return UserMessage(b"")
        reply, size = await read_message(reader, envelope, answer=True)
        stats.streams_in.add(reply.TYPE, size)
        return reply
    except BaseException:
        # A peer that reads no more must not keep what is left of the request here.
        writer.transport.abort()
        raise
    finally:
        writer.close()


async def ask_echo(
    seed: str, envelope: Envelope, own_id: bytes, timeout: float
) -> echo.Echo | None:
    """Ask the node at ``seed`` where it sees this one; ``None`` without an answer of another's."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(*await resolve(seed))
            try:
                await write_message(writer, UserMessage(echo.question()), envelope)
                reply, _ = await read_message(reader, envelope, answer=True)
                local = plain_host(writer.get_extra_info("sockname")[0])
            finally:
                writer.close()
    except (TimeoutError, OSError, DecryptError, DecodeError, asyncio.IncompleteReadError):
        return None
    payload = reply.payload if isinstance(reply, UserMessage) else b""
    seen = echo.read_answer(payload, own_id)
    return echo.Echo(seed, local, seen) if seen is not None else None
