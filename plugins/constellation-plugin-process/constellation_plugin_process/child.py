"""A child process whose end is noticed although somebody else still holds its pipes.

With pipes of asyncio's own making, ``Process.wait`` returns only when they are closed too (in
some releases of Python), and a daemon that the process has left behind may hold them for ever.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started, and leads a session of its own.

    Attributes:
        process: to wait for.
        outputs: what it writes to standard output and to standard error, or to both.
    """

    process: asyncio.subprocess.Process
    outputs: Sequence[asyncio.StreamReader]
    _transports: Sequence[asyncio.ReadTransport]

    @property
    def pid(self) -> int:
        """Its process id, which is its group's and its session's as well."""
        return self.process.pid

    def close(self) -> None:
        """Read no more of what it writes."""
        for transport in self._transports:
            transport.close()


async def start_child(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], merged: bool = False
) -> Child:
    """Start a program.

    Args:
        command: the program and its arguments.
        cwd: its working directory.
        env: its whole environment.
        merged: whether both outputs go into one.

    Raises:
        OSError: when it cannot be started.
        ValueError: when its arguments cannot be passed to a program.
    """
    pipes = [os.pipe() for _ in range(1 if merged else 2)]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipes[0][1],
            stderr=pipes[-1][1],
            start_new_session=True,
        )
    except BaseException:
        for reading, _ in pipes:
            os.close(reading)
        raise
    finally:
        for _, writing in pipes:
            os.close(writing)
    loop = asyncio.get_running_loop()
    readers, transports = [], []
    for reading, _ in pipes:
        reader = asyncio.StreamReader()
        transport, _protocol = await loop.connect_read_pipe(
            lambda reader=reader: asyncio.StreamReaderProtocol(reader),  # type: ignore[misc]
            os.fdopen(reading, "rb", 0),
        )
        readers.append(reader)
        transports.append(transport)
    return Child(process, readers, transports)
