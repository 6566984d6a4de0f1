"""Child processes for tests and demos: they never outlive the process that started them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Linux kills the child with its parent (prctl PR_SET_PDEATHSIG = 1), however the parent ends;
# elsewhere the option does nothing. Set in the child before it becomes the program, since code
# between fork and exec is not safe in a process with threads.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


async def start_child(
    argv: Sequence[str | Path],
    *,
    log_file: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pipe: bool = False,
) -> asyncio.subprocess.Process:
    """Start a program, to be called from the main thread.

    It has a process group of its own, so that Ctrl-C reaches only who started it.

    Args:
        argv: path of the program, and its arguments.
        log_file: what it writes is appended to this file.
        env: its whole environment; by default a copy of this process's.
        cwd: its working directory.
        pipe: standard output is read from the process's ``stdout`` instead; someone has to, or it
            stands still when the pipe is full.

    Raises:
        OSError: when it cannot be started.
    """
    with log_file.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-IS",
            "-c",
            _DIE_WITH_PARENT,
            str(os.getpid()),
            *map(str, argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if pipe else log,
            stderr=log,
            env=env,
            cwd=cwd,
            process_group=0,
        )


async def stop_child(process: asyncio.subprocess.Process, grace: float) -> None:
    """Stop a child: SIGTERM, and SIGKILL after ``grace`` seconds. No-op when it has ended."""
    if process.returncode is None:
        # One that is paused could not act on the other signal.
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.wait()
