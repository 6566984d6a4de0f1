"""Supervised tasks: what fails is started again, whatever it raises; nothing holds up the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from constellation_core.plugins import tasks
from constellation_core.plugins.tasks import Supervisor, TaskState


class Clock:
    """No wait takes any time."""

    def monotonic(self) -> float:
        return 0.0

    def time(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


ENDS = [SystemExit("no"), KeyboardInterrupt(), asyncio.CancelledError(), ValueError("no")]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("late", [True, False])
async def test_what_fails_is_started_again(error: BaseException, late: bool) -> None:
    calls = 0
    done = asyncio.Event()

    async def again() -> None:
        if calls < 3:
            raise error
        done.set()

    def function() -> Any:
        nonlocal calls
        calls += 1
        if calls < 3 and not late:
            raise error
        return again()

    supervisor = Supervisor(Clock())
    supervisor.spawn("plugin", "task", function)
    async with asyncio.timeout(10):
        await done.wait()
        while supervisor.statuses()[0].state is not TaskState.DONE:
            await asyncio.sleep(0)
    (status,) = supervisor.statuses()
    assert status.failures == 2
    assert type(error).__name__ in status.last_error
    await supervisor.close()


async def test_a_task_that_cannot_be_cancelled_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "_CANCEL_GRACE", 0.01)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("late")

    supervisor = Supervisor(Clock())
    supervisor.spawn("plugin", "stubborn", stubborn)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await supervisor.close()
    assert "plugin:stubborn takes no notice" in caplog.text
    # It was waited for once, and its name is free again.
    monkeypatch.setattr(tasks, "_CANCEL_GRACE", 60.0)
    async with asyncio.timeout(10):
        await supervisor.close()
    # It was told to end, so its failure starts nothing anew.
    release.set()
    async with asyncio.timeout(10):
        while supervisor.statuses()[0].state is not TaskState.STOPPED:
            await asyncio.sleep(0)


async def test_names_and_functions_that_are_none_are_refused() -> None:
    supervisor = Supervisor(Clock())
    for name, function in ((5, asyncio.sleep), ("task", None)):
        with pytest.raises(TypeError):
            supervisor.spawn("plugin", name, function)  # type: ignore[arg-type]
    assert supervisor.statuses() == []
