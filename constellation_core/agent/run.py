"""The agent as a process: logging, signals, and errors at the start."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from typing import Any

from constellation_core.agent.addresses import AdvertiseError
from constellation_core.agent.agent import Agent
from constellation_core.agent.data_dir import DataDirError
from constellation_core.api.server import ApiBindError
from constellation_core.config import Loaded, SecretError
from constellation_core.gossip import GossipBindError
from constellation_core.plugins.guard import explain, place

log = logging.getLogger("constellation.agent")

_END_GRACE = 5.0
"""Seconds, after the agent's orderly end, for tasks and threads that plugins left running."""

_COMPLAIN_EVERY = 60.0
_MOST_COMPLAINTS = 100

START_ERRORS = (AdvertiseError, ApiBindError, DataDirError, GossipBindError, SecretError)


def run_agent(loaded: Loaded) -> int:
    """Run an agent until it is told to end by SIGTERM, SIGINT or the API.

    Returns:
        The exit code: 0 after an orderly end, 1 when it could not start.
    """
    set_up_logging(loaded.settings.agent.log_level, loaded.settings.agent.log_format)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    if sys.version_info < (3, 12):
        # As newer Pythons do by themselves: no thread for every child process.
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
        # Said when the agent is stopped at once, while children end; the keeper has them.
        warnings.filterwarnings("ignore", "A loop is being detached from a child watcher")
    code = 0
    with asyncio.Runner() as runner:
        try:
            _run_through(runner.get_loop(), loaded)
        except START_ERRORS as error:
            log.error("%s", error)
            code = 1
        except Exception as error:
            log.error('the agent failed: %s; log_level = "debug" shows where', explain(error))
            log.debug("this is a defect", exc_info=error)
            code = 1
        end = threading.Timer(_END_GRACE, _end_at_once, (code,))
        end.daemon = True
        end.start()
    if not any(_holds_up(thread) for thread in threading.enumerate()):
        end.cancel()
    return code


def _run_through(loop: asyncio.AbstractEventLoop, loaded: Loaded) -> None:
    main = loop.create_task(_run(loaded), name="agent")
    while True:
        try:
            return loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            # Ctrl-C is a signal that the loop handles; this was raised in a task or a callback
            # that a plugin made for itself, and would end the loop under everybody else.
            if main.done():
                raise
            log.error("a plugin's task raised %s; the agent goes on", explain(error))


def _holds_up(thread: threading.Thread) -> bool:
    """Whether Python would wait for this thread before it ends."""
    return not thread.daemon and thread is not threading.main_thread()


def _end_at_once(code: int) -> None:
    log.warning("something a plugin left running does not end; ending without it")
    logging.shutdown()
    os._exit(code)


async def _run(loaded: Loaded) -> None:
    agent = Agent(loaded)
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    asked = 0

    def stop(name: str) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            log.info("%s: stopping; once more to stop at once", name)
            agent.shut_down()
        elif main is not None:
            main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    loop.set_exception_handler(_Complaints())
    # What was imported stays: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    try:
        await agent.run()
    except asyncio.CancelledError:
        if asked < 2:
            raise
        log.warning("stopped at once, without waiting for what was still ending")


class _Complaints:
    """What the event loop complains of, in a line each, and not more often than can be read."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        text = str(context.get("message", "the event loop complains"))
        if error is not None:
            text += f": {explain(error)}, at {place(error)}"
        now = loop.time()
        if now - self._last.get(text, -_COMPLAIN_EVERY) < _COMPLAIN_EVERY:
            return
        if len(self._last) > _MOST_COMPLAINTS:
            self._last.clear()
        self._last[text] = now
        log.error("%s", text)
        log.debug("%s", text, exc_info=error)


def set_up_logging(level: str, form: str) -> None:
    """Log to standard error: lines for people, or one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    # What libraries have to say looks the same, and is said from "warning" on.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("constellation").setLevel(level.upper())


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s")
        self.datefmt = "%Y-%m-%dT%H:%M:%S"
        self.converter = time.gmtime


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)
