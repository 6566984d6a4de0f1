"""Errors of the API, as JSON that says what, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web


class RefusedError(Exception):
    """Something was asked for that cannot be done now; the caller gets the text.

    Attributes:
        code: for machines.
        hint: what to do about it.
        status: of HTTP.
    """

    def __init__(self, code: str, message: str, hint: str = "", *, status: int = 409) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.status = status

    def document(self) -> dict[str, str]:
        """What stands under ``error`` in an answer."""
        return _error(self.code, str(self), self.hint)


def json_response(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """``document`` as JSON, with a line's end for those who read it in a terminal."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def error_response(
    status: int,
    code: str,
    message: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An error: ``code`` is for machines, the rest for people."""
    return json_response({"error": _error(code, message, hint)}, status=status, headers=headers)


def _error(code: str, message: str, hint: str) -> dict[str, str]:
    error = {"code": code, "message": message}
    return {**error, "hint": hint} if hint else error
