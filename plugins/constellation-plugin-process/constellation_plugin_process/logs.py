"""An instance's log: lines in a file that is rotated by size, read back and followed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from io import FileIO
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
        self._file: FileIO | None = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        self._followers: set[asyncio.Queue[LogLine]] = set()

    def write(self, at: float, stream: Stream, texts: Sequence[str]) -> None:
        """Append lines and hand them to those who follow. A full disk loses lines, no more.

        Args:
            at: wall-clock seconds since 1970, of all of them.
            stream: where they come from.
            texts: without their ends.
        """
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        head = f"{when} {stream} "
        # As few writes as can be: an instance that writes without pause is to leave the agent
        # time for the rest.
        data = bytearray()
        for text in texts:
            line = f"{head}{text}\n".encode(errors="replace")
            if self._size + len(data) + len(line) > self._max_bytes:
                self._append(data)
                self._rotate()
                data.clear()
            data += line
        self._append(data)
        for follower in self._followers:
            for text in texts[-_FOLLOWER_BACKLOG:]:
                # A reader that is too slow misses the oldest lines, never holds up the instance.
                if follower.full():
                    follower.get_nowait()
                follower.put_nowait(LogLine(at, stream, text))

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
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, data: bytes | bytearray) -> None:
        if not data:
            return
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            self._file.write(data)
            self._size += len(data)

    def _rotate(self) -> None:
        if self._size == 0:
            return
        self.close()
        with contextlib.suppress(OSError):
            self._set_aside()
            self._size = 0

    def _set_aside(self) -> None:
        for number in range(self._files - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._files == 1:
            self._path.unlink(missing_ok=True)

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
