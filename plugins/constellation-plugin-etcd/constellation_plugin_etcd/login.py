"""Being somebody in etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from constellation_plugin_etcd.answers import Refusal

E = TypeVar("E")

REFUSED = 30.0
"""Seconds until a login that was refused is tried again: each one costs etcd a bcrypt hash."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of etcd. The password is never shown."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"<Login {self.user}>"


class Tokens(Generic[E]):
    """The token that stands for a login. To be used in one event loop.

    Args:
        authenticate: logs in at a member, and gives a token.
    """

    def __init__(self, authenticate: Callable[[E], Awaitable[str]]) -> None:
        self._authenticate = authenticate
        self._task: asyncio.Task[str] | None = None
        self._refused: tuple[float, Refusal] | None = None

    async def get(self, member: E) -> str:
        """A token; whoever else asks at the same time gets the same.

        The login goes on when the asker's time is over: its next attempt finds it done.

        Raises:
            Refusal: it is refused, or was shortly before.
            Unreachable: the member did not answer.
        """
        if self._refused is not None:
            since, refusal = self._refused
            if asyncio.get_running_loop().time() - since < REFUSED:
                raise Refusal(refusal.code, str(refusal))
            self._refused = None
        if self._task is None:
            self._task = asyncio.create_task(self._run(member))
        return await asyncio.shield(self._task)

    def forget(self, token: str) -> None:
        """It is not valid any more, if it is the current one."""
        if self._task is not None and self._task.done() and self._task.result() == token:
            self._task = None

    async def close(self) -> None:
        """End a login that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, member: E) -> str:
        try:
            return await self._authenticate(member)
        except BaseException as error:
            self._task = None
            if isinstance(error, Refusal) and error.final:
                self._refused = (asyncio.get_running_loop().time(), error)
            raise
