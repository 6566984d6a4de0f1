"""The services file of an agent: loaded at the start, and again when asked."""

from __future__ import annotations

import logging
from pathlib import Path

from constellation_core.workloads import LocalWorkloads, ServicesError, read_services

log = logging.getLogger("constellation.agent")


class ServicesFile:
    """Loads ``[agent] services`` and makes it run.

    Attributes:
        path: the file, or ``None`` when the agent runs no services of its own.
        error: why the last load failed, or ``None``.
        applied: whether the first load is done, well or not.
    """

    def __init__(self, path: Path | None, workloads: LocalWorkloads) -> None:
        self.path = path
        self.error: str | None = None
        self.applied = path is None
        self._workloads = workloads

    async def load_first(self) -> None:
        """Load at the start; a bad file is logged, and the agent goes on without it."""
        if self.path is None:
            return
        try:
            await self.load()
        except ServicesError:
            log.error("no service of this node runs: mend the file, then: constellation reload")
        finally:
            self.applied = True

    async def load(self) -> list[str]:
        """Load the file and make its services run; returns their names.

        Raises:
            ServicesError: when the file cannot be used; what runs goes on.
        """
        if self.path is None:
            return []
        try:
            services = await read_services(self.path)
        except ServicesError as error:
            self.error = str(error)
            log.error("%s", error)
            raise
        self.error = None
        await self._workloads.apply(services)
        return [service.name for service in services]
