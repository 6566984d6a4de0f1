"""What the scenarios ask of a backend's test, and what they have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.consensus.leases import Lease, LeaseView
from constellation_core.testing.waiting import until_so

E = TypeVar("E", bound=Exception)
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds for what is to happen at all; a loaded machine takes its time."""


class Fleet(Protocol):
    """Agents that share one store. New and empty for each scenario.

    Attributes:
        ttl: seconds of a lease; as few as the backend keeps reliably where the tests run.
    """

    @property
    def ttl(self) -> float: ...

    async def join(self, node: str) -> ConsensusBackend:
        """A backend of an agent of this name, which runs. A name may come again after a crash."""
        ...

    async def crash(self, node: str) -> None:
        """Nothing that this agent says reaches anybody any more."""
        ...

    async def cut(self) -> None:
        """No agent reaches a majority of those who keep the store; but some of them, perhaps."""
        ...

    async def heal(self) -> None:
        """The end of :meth:`cut`. Others may lead for a moment, or nobody."""
        ...

    async def stumble(self) -> None:
        """Whoever leads those who keep the store crashes, and comes back after a while."""
        ...


Scenario = Callable[[Fleet], Coroutine[Any, Any, None]]


async def fails(work: Awaitable[object], *errors: type[E]) -> E:
    """Await what is to raise one of ``errors``; the error.

    Raises:
        AssertionError: it does not.
    """
    try:
        result = await work
    except errors as error:
        return error
    names = " or ".join(error.__name__ for error in errors)
    raise AssertionError(f"{names} was to be raised, and {result!r} came")


def raises(call: Callable[[], object], *errors: type[E]) -> E:
    """As :func:`fails`, for what is not awaited."""
    try:
        result = call()
    except errors as error:
        return error
    names = " or ".join(error.__name__ for error in errors)
    raise AssertionError(f"{names} was to be raised, and {result!r} came")


async def wait_for(
    things: AsyncIterator[T], wanted: Callable[[T], bool], timeout: float = PATIENCE
) -> T:
    """The first of ``things`` that is as wanted.

    Raises:
        TimeoutError: there is none in time.
    """
    async with asyncio.timeout(timeout):
        async for each in things:
            if wanted(each):
                return each
    raise AssertionError("what was never to end has ended")


async def holder(
    backend: ConsensusBackend, name: str, node: str | None, timeout: float = PATIENCE
) -> LeaseView | None:
    """Wait until ``node`` (or nobody, with ``None``) is seen to hold the lease."""
    return await wait_for(
        backend.leases.watch(name), lambda view: (view.node if view else None) == node, timeout
    )


async def renewed(lease: Lease, timeout: float = PATIENCE) -> None:
    """Wait until a lease that is held is renewed."""
    last = lease.remaining

    def rose() -> bool:
        nonlocal last
        before, last = last, lease.remaining
        return last > before

    await until_so(rose, timeout, "a renewal")


async def hold_for_ever(backend: ConsensusBackend, name: str, ttl: float) -> None:
    """Hold a lease until this is cancelled or the lease is lost."""
    async with backend.leases.hold(name, ttl=ttl):
        await asyncio.sleep(1e6)


@contextlib.asynccontextmanager
async def background(*work: Coroutine[Any, Any, T]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """Let coroutines run beside the block, and cancel them at its end.

    What they raise is for the block to ask for.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()


def now() -> float:
    """Seconds, of the event loop's clock."""
    return asyncio.get_running_loop().time()
