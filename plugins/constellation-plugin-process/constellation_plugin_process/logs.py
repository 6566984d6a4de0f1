"""An instance's log: lines in a file that is rotated by size, read back and followed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from constellation_core.runtime import LogLine

Stream = Literal["stdout", "stderr"]

MAX_LINE = 16_384
"""Bytes; a longer line is cut into several."""
_FOLLOWER_BACKLOG = 1_000


class InstanceLog:
    """The log of one instance.

    Args:
        path: the current file; older ones are ``path.1``, ``path.2`` ...
        max_bytes: size at which a new file is begun.
        files: how many files are kept, the current one included.
    """

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        self._followers: set[asyncio.Queue[LogLine]] = set()

    def write(self, line: LogLine) -> None:
        """Append a line and hand it to those who follow. A full disk loses lines, no more."""
        data = _encode(line)
        with contextlib.suppress(OSError):
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
            self._file.write(data)
            self._size += len(data)
        for follower in self._followers:
            # A reader that is too slow misses the oldest lines, never holds up the instance.
            if follower.full():
                follower.get_nowait()
            follower.put_nowait(line)

    async def read(self, tail: int, *, follow: bool) -> AsyncIterator[LogLine]:
        """The last ``tail`` lines, and with ``follow`` all that come."""
        queue: asyncio.Queue[LogLine] = asyncio.Queue(_FOLLOWER_BACKLOG)
        if follow:
            self._followers.add(queue)
        try:
            for line in await asyncio.to_thread(self._tail, tail):
                yield line
            while follow:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._files - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        self._file = self._path.open("ab", buffering=0)
        self._size = 0

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _tail(self, count: int) -> list[LogLine]:
        lines: deque[LogLine] = deque(maxlen=max(0, count))
        for number in range(self._files - 1, -1, -1):
            with contextlib.suppress(OSError), self._numbered(number).open("rb") as file:
                lines.extend(line for raw in file if (line := _decode(raw)) is not None)
        return list(lines)


class LineSplitter:
    """Cuts what a process writes into lines, in bounded memory whatever it writes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that ``data`` completes."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        for line in complete:
            yield from self._pieces(line)
        while len(self._rest) > MAX_LINE:
            yield _text(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]

    def end(self) -> Iterator[str]:
        """What was written without a line's end."""
        if self._rest:
            yield from self._pieces(self._rest)
            self._rest = b""

    def _pieces(self, line: bytes) -> Iterator[str]:
        for start in range(0, max(1, len(line)), MAX_LINE):
            yield _text(line[start : start + MAX_LINE])


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\r").decode(errors="replace")


def _encode(line: LogLine) -> bytes:
    at = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds")
    return f"{at} {line.stream} {line.text}\n".encode(errors="replace")


def _decode(raw: bytes) -> LogLine | None:
    at, _, rest = raw.decode(errors="replace").rstrip("\n").partition(" ")
    stream, _, text = rest.partition(" ")
    try:
        when = datetime.fromisoformat(at).timestamp()
    except ValueError:
        return None
    if stream == "stdout":
        return LogLine(when, "stdout", text)
    return LogLine(when, "stderr", text) if stream == "stderr" else None
