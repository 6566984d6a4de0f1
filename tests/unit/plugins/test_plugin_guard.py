"""Code of plugins that raises what ends programs, does not end, or holds up the event loop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from constellation_core.plugins.guard import (
    PluginRaisedError,
    bounded,
    cancel_all,
    contained,
    explain,
    place,
)
from constellation_core.plugins.stalls import StalledError, StallGuard

ENDS = [SystemExit("no"), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        raise error

    return work


class Stubborn:
    """Takes no notice of cancellation, until the test is over."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.done = asyncio.Event()

    async def run(self) -> None:
        while not self.over.is_set():
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                continue
        self.done.set()

    async def end(self) -> None:
        assert not self.done.is_set()
        self.over.set()
        async with asyncio.timeout(10):
            await self.done.wait()


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
async def test_what_ends_programs_becomes_an_exception(error: BaseException) -> None:
    with pytest.raises(PluginRaisedError, match=type(error).__name__):
        await bounded(raising(error)(), 10)
    if not isinstance(error, GeneratorExit):
        with pytest.raises(PluginRaisedError, match=type(error).__name__):
            await contained(raising(error)())


async def test_ones_own_cancellation_passes() -> None:
    task = asyncio.create_task(contained(asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_does_not_end_is_left_behind() -> None:
    stubborn = Stubborn()
    with pytest.raises(TimeoutError, match="took longer than"):
        await bounded(stubborn.run(), 0.01, grace=0.01)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert len(await cancel_all(left, grace=0.01)) == len(left) == 1
    await stubborn.end()


async def test_who_waits_for_what_does_not_end_can_be_cancelled() -> None:
    stubborn = Stubborn()
    waiting = asyncio.create_task(bounded(stubborn.run(), 1000, grace=0.01))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await stubborn.end()


def test_an_error_without_a_text_and_one_with_too_much() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    assert explain(BrokenError()) == "BrokenError: (its text cannot be had: ValueError)"
    assert len(explain(ValueError("x" * 1_000_000))) < 600
    assert explain(ValueError("one\n  two")) == "ValueError: one two"


async def test_the_place_of_an_error_is_where_it_was_raised() -> None:
    with pytest.raises(PluginRaisedError) as caught:
        await contained(raising(SystemExit())())
    assert place(caught.value).partition(":")[0] == __file__


@pytest.fixture
def stalls() -> Any:
    """A guard of a twentieth of a second, taken away afterwards."""
    before = signal.getsignal(signal.SIGALRM)
    guard = StallGuard(0.05)
    with guard.installed():
        yield guard
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_code_that_blocks_is_interrupted(stalls: StallGuard) -> None:
    for block in (lambda: time.sleep(1000), _spin):
        with pytest.raises(StalledError), stalls.watching():
            block()


def test_code_that_catches_everything_is_interrupted_again(stalls: StallGuard) -> None:
    caught: list[BaseException] = []

    def catches() -> None:
        while len(caught) < 3:
            try:
                time.sleep(1000)
            except BaseException as error:  # noqa: BLE001 - on purpose
                caught.append(error)

    with stalls.watching():
        catches()
    assert {type(error) for error in caught} == {StalledError}


def test_quick_code_and_code_elsewhere_are_left_alone(stalls: StallGuard) -> None:
    for _ in range(100):
        with stalls.watching(), stalls.watching():
            pass
    time.sleep(0.1)
    with StallGuard(0.01).watching():
        time.sleep(0.05)


async def test_a_coroutine_may_wait_but_not_block(stalls: StallGuard) -> None:
    async def waits() -> str:
        for _ in range(3):
            await asyncio.sleep(0.03)
        return "done"

    async def blocks() -> None:
        await asyncio.sleep(0)
        _spin()

    assert await stalls.watched(waits()) == "done"
    with pytest.raises(StalledError):
        await stalls.watched(blocks())
    with pytest.raises(PluginRaisedError, match="held up the event loop"):
        await bounded(stalls.watched(blocks()), 10)


async def test_a_watched_coroutine_raises_and_is_cancelled_as_without(stalls: StallGuard) -> None:
    cleaned_up = False

    async def cancelled() -> None:
        nonlocal cleaned_up
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up = True

    with pytest.raises(ValueError, match="on purpose"):
        await stalls.watched(raising(ValueError("on purpose"))())  # type: ignore[arg-type]
    task = asyncio.ensure_future(stalls.watched(cancelled()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned_up


def _spin() -> None:
    while True:
        pass
