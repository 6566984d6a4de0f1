"""Killing a process with everything that it started, as a power cut would."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

_ROUNDS = 20


def kill_tree(root: int) -> list[int]:
    """SIGKILL ``root`` and all its descendants, so that none sees another one end.

    Each is stopped first, from the root downwards, until nobody is left who could start
    another. A descendant that was given to init (a daemon that forked twice) is not found.

    Args:
        root: a child of this process that was not waited for yet, so that its id is its own.

    Returns:
        The process ids, ``root`` first; empty when it was gone already.
    """
    with contextlib.ExitStack() as descriptors:
        found: dict[int, int] = {}
        for _ in range(_ROUNDS):
            fresh = [pid for pid in _descendants(root) if pid not in found]
            if not fresh:
                break
            for pid in fresh:
                try:
                    found[pid] = os.pidfd_open(pid)
                except OSError:
                    continue
                descriptors.callback(os.close, found[pid])
                _send(found[pid], signal.SIGSTOP)
        for descriptor in found.values():
            _send(descriptor, signal.SIGKILL)
        return list(found)


def _send(descriptor: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


def _descendants(root: int) -> Iterator[int]:
    """``root`` and those below it, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    waiting = [root]
    while waiting:
        pid = waiting.pop(0)
        yield pid
        waiting += children.get(pid, [])


def _parents() -> Iterable[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            # The name, in brackets, may hold anything; what follows it does not.
            state, parent, *_ = stat.rpartition(")")[2].split()
            if state != "Z":
                yield int(entry.name), int(parent)
