"""Which way the command line asks an agent: the socket, and TCP only for want of a right to it."""

from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path

import pytest

from constellation_core.cli.client import AgentClient
from constellation_core.cli.errors import UNREACHABLE, CliError
from constellation_core.cli.unix_http import UnixConnection


def answer_once(server: socket.socket) -> threading.Thread:
    """Answer one request with an empty list."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_who_may_not_use_the_socket_asks_over_tcp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: UnixConnection) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(UnixConnection, "connect", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        thread = answer_once(server)
        client = AgentClient(tmp_path / "agent.sock", server.getsockname())
        assert client.get("/api/v1/members") == []
        thread.join()


@pytest.mark.parametrize("stale", [False, True])
def test_without_an_agent_on_the_socket_nobody_else_is_asked(tmp_path: Path, stale: bool) -> None:
    path = tmp_path / "agent.sock"
    if stale:
        with socket.socket(socket.AF_UNIX) as ended:
            ended.bind(str(path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        with pytest.raises(CliError, match=r"agent\.sock") as raised:
            AgentClient(path, server.getsockname()).get("/api/v1/members")
        assert raised.value.exit_code == UNREACHABLE
        with pytest.raises(BlockingIOError):
            server.accept()
