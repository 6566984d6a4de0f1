"""Our voters and etcd's members side by side, each with its clients in a process of its own.

As root each side has a network namespace, whose loopback interface counts all bytes with all
headers. Elsewhere bytes are not measured.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.members import ROOT
from benchmarks.result import Tell
from benchmarks.usage import usage
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.consensus.control import read_frame, write_frame
from constellation_core.testing.namespaces import NetworkNamespace, why_no_namespaces
from constellation_core.testing.waiting import until

KINDS = ("ours", "etcd")
_START_LIMIT = 30.0
_STOP_GRACE = 10.0
_SYNCS = 200


class SiteProcess:
    """A running :mod:`benchmarks.consensus_site`."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        space: NetworkNamespace | None,
    ) -> None:
        self._reader, self._writer = streams
        self._space = space

    async def ask(self, word: str, *arguments: Any) -> Any:
        """Have one of the site's methods called, and give what it returns.

        Raises:
            RuntimeError: it failed; the text has the site's traceback.
        """
        await write_frame(self._writer, [word, list(arguments)])
        well, answer = await read_frame(self._reader)
        if not well:
            raise RuntimeError(answer)
        return answer

    async def idle(self, seconds: float) -> dict[str, float]:
        """What a member costs by itself; of the costliest, so that no average hides it."""
        pids = (await self.ask("pids")).values()
        sent, began = self._sent(), time.monotonic()
        before = {pid: usage(pid) for pid in pids}
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        after = {pid: usage(pid) for pid in pids}
        figures = {
            "cpu_of_a_core": max(after[pid].cpu - before[pid].cpu for pid in pids) / took,
            "pss_mb": max(each.pss for each in after.values()),
            "rss_mb": max(each.rss for each in after.values()),
        }
        if self._space is not None:
            figures["bytes_per_s"] = (self._sent() - sent) / took / len(pids)
        return figures

    def _sent(self) -> int:
        return self._space.bytes_sent() if self._space is not None else 0


@asynccontextmanager
async def run_sites(tell: Tell) -> AsyncIterator[dict[str, SiteProcess]]:
    """Both sides, with members that agree; by ``ours`` and ``etcd``."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="consensus-")))
        missing = why_no_namespaces()
        if missing:
            tell(f"bytes on the wire are not measured: {missing}")
        sites = {}
        for kind in KINDS:
            (folder / kind).mkdir()
            space = None if missing else stack.enter_context(NetworkNamespace())
            sites[kind] = await _start(stack, kind, folder / kind, space)
        await asyncio.gather(*(site.ask("start") for site in sites.values()))
        yield sites


async def _start(
    stack: AsyncExitStack, kind: str, folder: Path, space: NetworkNamespace | None
) -> SiteProcess:
    argv: Sequence[str | Path] = [sys.executable, "-m", "benchmarks.consensus_site", kind, folder]
    log, control = folder / "site.log", folder / "control"
    process = await start_child(
        space.command(argv) if space is not None else argv, log_file=log, cwd=ROOT
    )
    stack.push_async_callback(stop_child, process, _STOP_GRACE)

    async def answers() -> bool:
        return control.exists() or process.returncode is not None

    await until(answers, _START_LIMIT, f"the site of {kind}")
    try:
        streams = await asyncio.open_unix_connection(control)
    except OSError as error:
        raise RuntimeError(log.read_text(errors="replace")[-2000:]) from error
    stack.callback(streams[1].close)
    return SiteProcess(streams, space)


async def both(sites: Mapping[str, SiteProcess], word: str, *arguments: Any) -> dict[str, Any]:
    """Ask both sides the same at the same time."""
    answers = await asyncio.gather(*(site.ask(word, *arguments) for site in sites.values()))
    return dict(zip(sites, answers, strict=True))


def disk_sync_ms() -> float:
    """Median milliseconds that this disk needs for ``fdatasync`` after a short write."""
    with TemporaryDirectory(prefix="consensus-") as folder:
        fd = os.open(Path(folder) / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return 1000 * statistics.median(_sync(fd) for _ in range(_SYNCS))
        finally:
            os.close(fd)


def _sync(fd: int) -> float:
    os.write(fd, b"x" * 100)
    began = time.perf_counter()
    os.fdatasync(fd)
    return time.perf_counter() - began
