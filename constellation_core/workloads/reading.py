"""Reads a services file in a process of its own.

The file is a program: it may loop without end, call ``os._exit``, change the working directory,
the environment or the modules of whoever runs it. What comes back is data, and the agent that
asked for it is as it was before.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from constellation_core.model.service import Service
from constellation_core.workloads.loader import ServicesError

TIME_LIMIT = 30.0
"""Seconds that a services file may take."""

_LENIENCE = 10.0
"""Seconds after its time limit in which the other process ends by itself, or is killed."""


@dataclass(frozen=True)
class Answer:
    """What the other process found: services, or why there are none."""

    services: tuple[Service, ...] = ()
    path: str = ""
    line: int = 0
    reason: str = ""


ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


async def read_services(path: Path, *, time_limit: float = TIME_LIMIT) -> tuple[Service, ...]:
    """As :func:`~constellation_core.workloads.loader.load_services`, in another process.

    What the file prints goes to this process's standard error.

    Raises:
        ServicesError: also when the file takes longer than ``time_limit`` seconds, or ends the
            process that reads it.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "constellation_core.workloads.child",
        str(path),
        f"{time_limit:g}",
        # The other process ends when this pipe does, and so with this process, however it ends.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(time_limit + _LENIENCE):
            output = await process.stdout.read() if process.stdout is not None else b""
            status = await process.wait()
    except TimeoutError:
        raise ServicesError(path, 0, too_long(time_limit)) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdin is not None:
            process.stdin.close()
    try:
        answer = ANSWER.validate_json(output)
    except ValidationError:
        raise ServicesError(path, 0, f"it ended the process that reads it {_how(status)}") from None
    if answer.reason:
        raise ServicesError(Path(answer.path), answer.line, answer.reason)
    return answer.services


def too_long(seconds: float) -> str:
    """What is wrong with a file that takes more than ``seconds``."""
    return f"it is not done after {seconds:g} s; does it loop, or wait for something?"


def _how(status: int) -> str:
    if status >= 0:
        return f"(exit status {status})"
    try:
        return f"({signal.Signals(-status).name})"
    except ValueError:
        return f"(signal {-status})"
