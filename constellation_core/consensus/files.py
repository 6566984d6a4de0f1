"""Files that are whole or absent, whenever the process or the machine stops.

A *fault point* is a name that the storage code passes by; tests inject a function that gets
the name and may kill the process there. There is no global: who opens a file passes it on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

FaultPoint: TypeAlias = Callable[[str], None]


def no_faults(name: str, /) -> None:
    """The fault points of production: nothing happens."""


def write_all(fd: int, data: bytes, faults: FaultPoint = no_faults, name: str = "write") -> None:
    """Write all of ``data`` at the end of an open file.

    With fault points injected it is written in two halves, with the point ``name`` in between.

    Raises:
        OSError: it could not all be written, for instance because the disk is full.
    """
    if faults is not no_faults:
        half = len(data) // 2
        _write(fd, data[:half])
        faults(name)
        data = data[half:]
    _write(fd, data)


def replace_file(
    path: Path, data: bytes, faults: FaultPoint = no_faults, name: str = "replace"
) -> None:
    """Make ``data`` the content of ``path``, durably, all of it or none.

    The new content is synced before it gets the name, and the directory after.

    Raises:
        OSError: it could not be done; the old content stands.
    """
    new = path.with_name(path.name + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data, faults, f"{name}.half")
        faults(f"{name}.unsynced")
        os.fsync(fd)
    finally:
        os.close(fd)
    faults(f"{name}.synced")
    adopt_file(new, path, faults, name)


def adopt_file(
    new: Path, path: Path, faults: FaultPoint = no_faults, name: str = "replace"
) -> None:
    """Give a synced file the name ``path``, durably."""
    new.replace(path)
    faults(f"{name}.renamed")
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
