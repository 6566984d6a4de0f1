"""Programs that the conformance tests drive: they say what they see in JSON lines."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from constellation_core.testing.waiting import until

FOLDER = Path(__file__).parent
GOPATH = Path("/usr/share/gocode")
MEMBERLIST = GOPATH / "src/github.com/hashicorp/memberlist"
_BUILD_SECONDS = 240
_MOST_LINE = 64 << 20
PATIENCE = 20.0
"""Seconds for whatever should happen soon, on a machine with other work to do."""

Line = Mapping[str, Any]


def to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def from_text(text: str) -> bytes:
    return base64.b64decode(text)


def require_go() -> None:
    """Skip the test where the Go program cannot be built."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed (Debian: golang-go)")
    if not MEMBERLIST.is_dir():
        pytest.skip(
            "memberlist for Go is not installed (Debian: golang-github-hashicorp-memberlist-dev)"
        )


def require_serf() -> None:
    """Skip the test where Serf is not installed."""
    if shutil.which("serf") is None:
        pytest.skip("serf is not installed (Debian: serf)")


def go_program() -> Path:
    """The Go program, built when there is none of its source yet.

    It is kept in the virtual environment, in a folder named after its source and the compiler.
    """
    sources = sorted((FOLDER / "go").glob("*.go"))
    version = subprocess.run(["go", "version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version + b"".join(path.read_bytes() for path in sources))
    cache = Path(sys.prefix) / "conformance"
    program = cache / digest.hexdigest()[:16] / "memberlist-node"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    built = subprocess.run(
        ["go", "build", "-o", str(unfinished), *map(str, sources)],
        cwd=FOLDER / "go",
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": str(GOPATH),
            "GOCACHE": str(cache / "go-cache"),
            "GOFLAGS": "",
        },
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    unfinished.rename(program)
    return program


class Program:
    """A child that reads commands and prints JSON lines, each with its ``kind``.

    It ends when its standard input does, and so does not outlive who started it.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.lines: list[Line] = []
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, argv: Sequence[str | Path], log: Path) -> Program:
        """Start it, and wait until it says that it is ready."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *map(str, argv),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_MOST_LINE,
                process_group=0,
            )
        program = cls(process, log)
        try:
            await program.until("ready")
        except BaseException:
            await program.kill()
            raise
        return program

    def said(self, kind: str, **wanted: object) -> list[Line]:
        """The lines of a kind in which these fields are as given."""
        return [
            line
            for line in self.lines
            if line["kind"] == kind and all(line.get(k) == v for k, v in wanted.items())
        ]

    async def until(
        self, kind: str, *, after: int = 0, timeout: float = PATIENCE, **wanted: object
    ) -> Line:
        """The first such line, not counting the first ``after`` ones."""

        async def found() -> list[Line]:
            if self._process.returncode is not None and self._reader.done():
                raise AssertionError(f"the program has ended: {self.log_end()}")
            return self.said(kind, **wanted)[after:]

        what = f"a line of kind {kind} with {wanted}" if wanted else f"a line of kind {kind}"
        return (await until(found, timeout, what, interval=0.02, explain=self.log_end))[0]

    async def command(self, *words: str) -> None:
        """Have it do something; fails the test when it says that it could not."""
        done = len(self.said("done"))
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        await self._process.stdin.drain()
        answer = await self.until("done", after=done)
        assert answer["error"] == "", (words[0], answer["error"])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it with SIGKILL; harmless when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader

    def log_end(self) -> str:
        """The end of what it wrote to standard error, and of what it said."""
        said = "\n".join(map(str, self.lines[-8:]))
        return f"\n{self._log.read_text(errors='replace')[-3000:]}\n{said}"

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(json.loads(line))


async def so(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Wait until it is so."""

    async def ask() -> object:
        return condition()

    await until(ask, timeout, what, interval=0.02)


async def compressed_by_go(inputs: Sequence[bytes]) -> list[bytes]:
    """What Go's ``compress/lzw`` makes of each, with memberlist's parameters."""
    process = await asyncio.create_subprocess_exec(
        go_program(), "lzw", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    lines = "".join(to_text(data) + "\n" for data in inputs)
    output, _ = await process.communicate(lines.encode())
    assert process.returncode == 0
    return [from_text(line) for line in output.decode().splitlines()]
