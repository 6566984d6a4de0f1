"""A steady load of requests, sent by the clock: a slow answer does not delay the next request."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field

import aiohttp

REQUEST_TIMEOUT = 10.0
_RECENT = 20


@dataclass(slots=True)
class LoadStats:
    """What came of the requests so far.

    Attributes:
        requests: that have ended, one way or the other.
        failed: that got no answer, or another one than 200.
        by_node: answers from each node.
        reasons: why requests failed.
        recent: whether the last ones succeeded, oldest first.
    """

    requests: int = 0
    failed: int = 0
    by_node: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def steady(self) -> bool:
        """Whether the last requests all succeeded."""
        return len(self.recent) == _RECENT and all(self.recent)


class Load:
    """Sends requests to one URL, ``rate`` a second.

    Args:
        url: where to.
        host: the ``Host`` header.
        rate: requests a second.
    """

    def __init__(self, url: str, host: str, rate: float) -> None:
        self._url = url
        self._headers = {"Host": host}
        self._period = 1.0 / rate
        self.stats = LoadStats()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set, then wait for the answers that are due."""
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        async with (
            aiohttp.ClientSession(
                timeout=timeout, connector=aiohttp.TCPConnector(limit=0), headers=self._headers
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            due = loop.time()
            while not stop.is_set():
                group.create_task(self._request(session))
                due += self._period
                delay = due - loop.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                else:
                    # This process was paused: what was missed is not sent all at once.
                    due = loop.time()
                    await asyncio.sleep(0)

    async def _request(self, session: aiohttp.ClientSession) -> None:
        reason = ""
        node = ""
        try:
            async with session.get(self._url) as answer:
                await answer.read()
                node = answer.headers.get("X-Node", "")
                if answer.status != 200:
                    reason = f"status {answer.status}"
        except TimeoutError:
            reason = "timeout"
        except aiohttp.ClientError as error:
            reason = type(error).__name__
        stats = self.stats
        stats.requests += 1
        stats.recent.append(not reason)
        if reason:
            stats.failed += 1
            stats.reasons[reason] += 1
        elif node:
            stats.by_node[node] += 1
