"""Talks to the agent of this host: over its unix socket, or, without the right to, over TCP.

For commands, also those of plugins::

    answer = AgentClient.from_config(config).get("/api/v1/status")
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constellation_core.cli.errors import UNREACHABLE, CliError

if TYPE_CHECKING:
    import http.client

_TIMEOUT = 15.0


class AgentClient:
    """A client of one agent's API.

    Args:
        socket_path: the agent's unix socket.
        tcp: its TCP address, asked where this user may not use the socket; read-only.
    """

    def __init__(self, socket_path: Path, tcp: tuple[str, int] | None = None) -> None:
        self._socket_path = socket_path
        self._tcp = tcp

    @classmethod
    def from_config(cls, config: Path | None = None) -> AgentClient:
        """The client for the agent that ``config`` (or the file that is found) describes.

        Raises:
            ConfigError: when there are no usable settings.
        """
        from constellation_core.config import load

        settings = load(config).settings
        bind = settings.api.bind
        return cls(settings.api.socket, (bind.host, bind.port) if bind.port else None)

    def get(self, path: str) -> Any:
        """The JSON document at ``path``.

        Raises:
            CliError: when the agent cannot be reached, or answers with an error.
        """
        return self._call("GET", path)

    def get_bytes(self, path: str) -> bytes:
        """What is at ``path``, as it is. Raises as :meth:`get`."""
        return self._read("GET", path)

    def post(self, path: str) -> Any:
        """Ask for a change; the answer. Raises as :meth:`get`."""
        return self._call("POST", path)

    def lines(self, path: str, accept: str = "application/x-ndjson") -> Iterator[str]:
        """The lines of a stream, as they come. Raises as :meth:`get`."""
        from http.client import HTTPException

        connection, response = self._open("GET", path, {"Accept": accept}, timeout=None)
        try:
            self._check(response)
            while line := response.readline():
                yield line.decode().rstrip("\n")
        except (OSError, HTTPException):
            # The agent ended; so does its stream.
            return
        finally:
            connection.close()

    def _call(self, method: str, path: str) -> Any:
        answer = self._read(method, path)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise CliError(f"the agent's answer cannot be read: {error}") from None

    def _read(self, method: str, path: str) -> bytes:
        from http.client import HTTPException

        connection, response = self._open(method, path, {}, _TIMEOUT)
        try:
            self._check(response)
            return response.read()
        except TimeoutError:
            raise CliError(f"the agent did not answer within {_TIMEOUT:g} s") from None
        except (OSError, HTTPException) as error:
            raise CliError(f"the agent's answer cannot be read: {error}") from None
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, headers: dict[str, str], timeout: float | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        from http.client import HTTPException

        reasons = []
        for connection, where in self._connections(timeout):
            try:
                connection.request(method, path, headers=headers)
                return connection, connection.getresponse()
            except TimeoutError:
                connection.close()
                raise CliError(
                    f"the agent did not answer within {_TIMEOUT:g} s ({where})",
                    "it may be paused or overloaded; see its log",
                ) from None
            except (OSError, HTTPException) as error:
                connection.close()
                number = getattr(error, "errno", None)
                reasons.append(f"{where}: {os.strerror(number) if number else error}")
                if not isinstance(error, PermissionError):
                    # Nobody is there. On TCP another agent of this host might answer.
                    break
        raise CliError(
            f"the agent cannot be reached ({'; '.join(reasons)})",
            "start it with: constellation agent; or name its settings with --config",
            UNREACHABLE,
        )

    def _connections(
        self, timeout: float | None
    ) -> Iterator[tuple[http.client.HTTPConnection, str]]:
        # Imported when something is asked: most of what a command line does needs no HTTP.
        from http.client import HTTPConnection

        from constellation_core.cli.unix_http import UnixConnection

        yield UnixConnection(str(self._socket_path), timeout), str(self._socket_path)
        if self._tcp is not None:
            host, port = self._tcp
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            yield HTTPConnection(host, port, timeout=timeout), f"{host}:{port}"

    def _check(self, response: http.client.HTTPResponse) -> None:
        if response.status < 400:
            return
        try:
            error = json.loads(response.read())["error"]
            message, hint = str(error["message"]), str(error.get("hint", ""))
        except (ValueError, KeyError, TypeError):
            message, hint = f"the agent answered {response.status} {response.reason}", ""
        raise CliError(message, hint)
