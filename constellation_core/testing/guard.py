"""The guard of a local cluster: ends its agents when the process that started them is gone.

A program of its own, started by :class:`~constellation_core.testing.cluster.LocalCluster` with
the cluster's end of a pipe as its standard input. However that process ends, SIGKILL included,
the kernel closes the pipe. Then the guard stops every process that carries the cluster's mark
in its environment. It keeps no list of processes, so there is none that could be out of date.

It imports little and no package, to start fast and stay small:
``python -I -S guard.py MARK GRACE``.
"""

from __future__ import annotations

import os
import signal
import sys
import time

VARIABLE = "CONSTELLATION_LOCAL_CLUSTER"
"""The environment variable that carries the mark."""

_POLL = 0.05


def marked(mark: str) -> list[int]:
    """Ids of all processes of this user that carry ``mark``, this one left out."""
    wanted = f"{VARIABLE}={mark}".encode()
    running = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in running if pid != os.getpid() and _carries(pid, wanted)]


def stop_marked(mark: str, grace: float) -> None:
    """Stop all processes that carry ``mark``: SIGTERM, and SIGKILL after ``grace`` seconds."""
    for pid in marked(mark):
        _signal(pid, mark, signal.SIGTERM)
        # One that is paused could not act on it.
        _signal(pid, mark, signal.SIGCONT)
    deadline = time.monotonic() + grace
    while (remaining := marked(mark)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    for pid in remaining:
        _signal(pid, mark, signal.SIGKILL)


def _carries(pid: int, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return wanted in file.read().split(b"\0")
    except OSError:
        # Gone, or another user's and so not ours.
        return False


def _signal(pid: int, mark: str, number: int) -> None:
    # The descriptor stands for the process, not for its number: had the number been given to
    # another process since, the second look would see it, and that process be left alone.
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _carries(pid, f"{VARIABLE}={mark}".encode()):
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def main() -> None:
    """Wait for the end of the cluster's owner, then stop what it left."""
    mark, grace = sys.argv[1], float(sys.argv[2])
    # What ends the owner from a terminal must not end the guard before it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    stop_marked(mark, grace)


if __name__ == "__main__":
    main()
