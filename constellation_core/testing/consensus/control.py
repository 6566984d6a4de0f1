"""Requests and answers between a test and the processes that it started, over Unix sockets.

A request is MessagePack ``[number, word, bytes]`` behind four bytes of length, an answer
``[number, outcome, value]``; many may be under way at a time. Unix sockets reach a process in
another network namespace, so that no fault of the network comes between test and process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgpack

ANSWER = 15.0
"""Seconds that :meth:`Client.ask` waits."""

Answering: TypeAlias = Callable[[str, bytes], Awaitable[list[Any]]]
"""Gives outcome and value for a word and bytes."""


class Gone(Exception):  # noqa: N818
    """There was no answer; what was asked may be done.

    Attributes:
        sent: whether anything left.
    """

    def __init__(self, *, sent: bool = True) -> None:
        super().__init__("no answer")
        self.sent = sent


class Client:
    """A connection to one process's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[list[Any]]] = {}
        self._number = 0
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: Path) -> Client:
        """Connect to the process that listens there.

        Raises:
            Gone: none does.
        """
        try:
            return cls(*await asyncio.open_unix_connection(path))
        except OSError as error:
            raise Gone(sent=False) from error

    async def ask(self, word: str, value: bytes = b"", timeout: float = ANSWER) -> list[Any]:
        """Outcome and value.

        Raises:
            Gone: there was no answer in time.
        """
        if self._task.done():
            raise Gone(sent=False)
        self._number += 1
        number = self._number
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await write_frame(self._writer, [number, word, value])
            # Not wait_for: Python 3.11's forgets a cancellation that comes with the answer.
            async with asyncio.timeout(timeout):
                return await future
        except (OSError, TimeoutError) as error:
            raise Gone from error
        finally:
            self._waiting.pop(number, None)

    @property
    def closed(self) -> bool:
        """Whether the other side has gone."""
        return self._task.done()

    async def close(self) -> None:
        """End the connection."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while True:
                number, *answer = await read_frame(self._reader)
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Gone())


@contextlib.asynccontextmanager
async def serving(path: Path, answer: Answering) -> AsyncIterator[None]:
    """Answer what comes to a socket, until the block ends."""
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def one(number: int, word: str, value: bytes) -> None:
            outcome = await answer(word, value)
            with contextlib.suppress(OSError):
                await write_frame(writer, [number, *outcome])

        async with asyncio.TaskGroup() as tasks:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while True:
                    tasks.create_task(one(*await read_frame(reader)))
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        handlers.add(task)
        task.add_done_callback(handlers.discard)

    server = await asyncio.start_unix_server(accept, path)
    try:
        yield
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def write_frame(writer: asyncio.StreamWriter, fields: list[Any]) -> None:
    """Send one request or answer."""
    data: bytes = msgpack.packb(fields)
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> list[Any]:
    """Receive one.

    Raises:
        asyncio.IncompleteReadError: the other side is gone.
    """
    length = int.from_bytes(await reader.readexactly(4), "big")
    fields: list[Any] = msgpack.unpackb(await reader.readexactly(length))
    return fields
