"""Logs of every instance in the fleet: this node's from its drivers, others' over streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from constellation_core.api.errors import RefusedError
from constellation_core.gossip import (
    Gossip,
    Member,
    PeerGoneError,
    PeerUnreachableError,
    RejectionError,
    RemoteRejectionError,
    ServiceLimits,
    Stream,
    StreamError,
    StreamTimeoutError,
)
from constellation_core.plugins.context import CatalogView
from constellation_core.runtime import LogLine

SERVICE = "logs"
MOST_LINES = 10_000
_LIMITS = ServiceLimits(message=4096, total=4096, concurrent=32)
_LONGEST_LINE = 65_536
"""Characters; escaped they are still less than a message may have."""
_FOUND = b"{}"
"""Comes before the lines, so that a caller knows that there will be some."""

Lines = AbstractAsyncContextManager[AsyncIterator[LogLine]]


class LocalLogs(Protocol):
    """Where this node's own logs come from; the workloads are it."""

    def ids(self) -> Sequence[str]:
        """The instances of this node."""

    def logs(self, instance_id: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        """What one of them wrote. Raises ``KeyError`` for another."""


class FleetLogs:
    """Reads logs, wherever the instance runs, and serves those of this node to the others.

    Args:
        gossip: reaches the other nodes.
        catalog: tells where an instance runs.
        local: logs of this node's instances.
    """

    def __init__(self, gossip: Gossip, catalog: CatalogView, local: LocalLogs) -> None:
        self._gossip = gossip
        self._catalog = catalog
        self._local = local

    def serve(self) -> None:
        """Let the other nodes read the logs of this one."""
        self._gossip.streams.serve(SERVICE, self._handle, limits=_LIMITS)

    def open(self, instance_id: str, *, tail: int, follow: bool) -> Lines:
        """The last ``tail`` lines that an instance wrote, and with ``follow`` what comes.

        Raises:
            KeyError: when it is entered, for an instance that nobody knows.
            RefusedError: when it is entered or read, when the instance's node gives no logs.
        """
        if instance_id in self._local.ids():
            return _closing(self._local.logs(instance_id, tail=tail, follow=follow))
        return self._remote(instance_id, tail, follow)

    # --- other nodes' ------------------------------------------------------------------------

    @asynccontextmanager
    async def _remote(
        self, instance_id: str, tail: int, follow: bool
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        instance = self._catalog.instance(instance_id)
        if instance is None:
            raise KeyError(instance_id)
        member = self._gossip.protocol.table.get(instance.node)
        if member is None or not member.online:
            state = member.state.value if member is not None else "unknown"
            raise RefusedError(
                "node-down",
                f"{instance_id} runs on node {instance.node}, which is {state}",
                f"its logs are on {instance.node}, and can be read when it is back",
                status=503,
            )
        request = {"instance": instance_id, "tail": tail, "follow": follow}
        async with _refusing(member), self._gossip.streams.open(member, SERVICE) as stream:
            await stream.send(json.dumps(request).encode())
            await stream.end()
            if await stream.receive() != _FOUND:
                raise _unreadable(member)
            yield _lines(stream, member)

    # --- this node's -------------------------------------------------------------------------

    async def _handle(self, stream: Stream) -> None:
        instance_id, tail, follow = _read_request(await stream.receive() or b"")
        try:
            lines = self._local.logs(instance_id, tail=tail, follow=follow)
        except KeyError:
            raise RejectionError(
                "unknown-instance",
                f"{instance_id} does not run here any more",
                "see: constellation services",
            ) from None
        await stream.send(_FOUND)
        async with _closing(lines):
            async for line in lines:
                text = line.text[:_LONGEST_LINE]
                await stream.send(json.dumps([line.at, line.stream, text]).encode())


@asynccontextmanager
async def _closing(lines: AsyncIterator[LogLine]) -> AsyncIterator[AsyncIterator[LogLine]]:
    try:
        yield lines
    finally:
        # A driver may hand out any iterator; a generator holds something until it is closed.
        close = getattr(lines, "aclose", None)
        if close is not None:
            await close()


@asynccontextmanager
async def _refusing(member: Member) -> AsyncIterator[None]:
    """Tells the API's callers what went wrong on the way to ``member``."""
    try:
        yield
    except RemoteRejectionError as error:
        raise RefusedError(error.code, f"{member.name}: {error.reason}", error.hint) from None
    except (PeerUnreachableError, PeerGoneError, StreamTimeoutError) as error:
        raise RefusedError(
            "node-unreachable",
            f"node {member.name} gives no logs: {error.reason}",
            error.hint
            or f"see whether it runs and can be reached: constellation members; "
            f"on {member.name}: constellation verify",
            status=503,
        ) from None
    except StreamError as error:
        reason = f"node {member.name} gives no logs: {error.reason}"
        raise RefusedError("no-logs", reason, error.hint, status=502) from None


async def _lines(stream: Stream, member: Member) -> AsyncIterator[LogLine]:
    async with _refusing(member):
        async for message in stream:
            yield _read_line(message, member)


def _read_line(message: bytes, member: Member) -> LogLine:
    try:
        at, stream, text = json.loads(message)
    except (ValueError, TypeError, RecursionError):
        raise _unreadable(member) from None
    if not isinstance(at, int | float) or not isinstance(text, str):
        raise _unreadable(member)
    return LogLine(float(at), "stderr" if stream == "stderr" else "stdout", text)


def _unreadable(member: Member) -> RefusedError:
    reason = f"node {member.name} sends logs that cannot be read"
    return RefusedError("no-logs", reason, "upgrade the older of both agents", status=502)


def _read_request(data: bytes) -> tuple[str, int, bool]:
    try:
        request = json.loads(data)
        instance_id, tail, follow = request["instance"], request["tail"], request["follow"]
    except (ValueError, TypeError, KeyError, RecursionError):
        instance_id, tail, follow = None, None, None
    if not isinstance(instance_id, str) or type(tail) is not int or not isinstance(follow, bool):
        raise RejectionError("wrong-request", "not a request for logs")
    return instance_id, min(max(0, tail), MOST_LINES), follow
