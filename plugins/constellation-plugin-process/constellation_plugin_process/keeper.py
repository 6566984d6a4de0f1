"""The keeper: outlives a killed agent just long enough to stop what the agent ran.

A program of its own, started by the driver with the agent's end of a pipe as its standard
input. However the agent ends, SIGKILL included, the kernel closes that pipe. Then the keeper
stops every process that carries the agent's mark in its environment: the instances, and all
that they started, also in sessions of their own. It keeps no list, so nothing can be stale.

It imports little and no package, to be small: ``python -I -S keeper.py MARK GRACE``.
"""

from __future__ import annotations

import os
import signal
import sys
import time

VARIABLE = "CONSTELLATION_AGENT"
"""The environment variable that carries the mark."""

INSTANCE = "CONSTELLATION_INSTANCE"
"""The environment variable that says to which instance a process belongs."""

_POLL = 0.05
_ROUNDS = 100


def marked(mark: str) -> list[int]:
    """Process ids of all processes that carry ``mark``, this one left out."""
    return _carrying([f"{VARIABLE}={mark}".encode()])


def stop_marked(mark: str, grace: float) -> int:
    """Stop all processes that carry ``mark``: SIGTERM, and SIGKILL after ``grace`` seconds.

    Returns:
        How many there were.
    """
    wanted = [f"{VARIABLE}={mark}".encode()]
    first = _carrying(wanted)
    for pid in first:
        _signal(pid, wanted, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while _carrying(wanted) and time.monotonic() < deadline:
        time.sleep(_POLL)
    _kill(wanted)
    return len(first)


def kill_instance(mark: str, instance: str) -> None:
    """Kill all that is left of one instance."""
    _kill([f"{VARIABLE}={mark}".encode(), f"{INSTANCE}={instance}".encode()])


def _kill(wanted: list[bytes]) -> None:
    # Some may start others meanwhile, so this is repeated, but not for ever.
    for _ in range(_ROUNDS):
        remaining = _carrying(wanted)
        if not remaining:
            return
        for pid in remaining:
            _signal(pid, wanted, signal.SIGKILL)
        time.sleep(_POLL)


def _carrying(wanted: list[bytes]) -> list[int]:
    running = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in running if pid != os.getpid() and _carries(pid, wanted)]


def _carries(pid: int, wanted: list[bytes]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
    except OSError:
        # Gone, or another user's, and so not ours.
        return False
    return all(each in environment for each in wanted)


def _signal(pid: int, wanted: list[bytes], number: int) -> None:
    # The descriptor names the process, not the number: if the number was given to another
    # process since the look at /proc, the second look sees it, and nobody else is signalled.
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _carries(pid, wanted):
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def main() -> None:
    """Wait for the end of the agent, then stop its processes."""
    mark, grace = sys.argv[1], float(sys.argv[2])
    # The end of a terminal session must not end the keeper before the agent.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    stop_marked(mark, grace)


if __name__ == "__main__":
    main()
