"""Checks that ``constellation verify`` runs, in the core and in plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

VerifyStatus = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The outcome of one check.

    Attributes:
        status: ``ok``; ``warn`` (works, but look at it); ``fail``; or ``skip``.
        detail: what was found, in one line.
        remedy: for ``warn`` and ``fail``: what the operator should do, as a command where
            there is one.
    """

    status: VerifyStatus
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class VerifyCheck:
    """Something to look at.

    Attributes:
        name: ``AREA.WHAT``, for example ``traefik.document``.
        run: looks and answers; it may take up to 10 seconds.
    """

    name: str
    run: Callable[[], Awaitable[VerifyResult]]
