"""Exit codes mean something, and errors go to standard error."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def test_without_an_agent_it_is_exit_code_3(cli: Any, tmp_path: Path) -> None:
    cli("init", "--name", "x", "--bind", "127.0.0.1:1")
    text = (tmp_path / "agent.toml").read_text()
    (tmp_path / "agent.toml").write_text(
        text.replace('# bind = "127.0.0.1:8081"', 'bind = "127.0.0.1:1"')
    )
    for words in ("status", "members", "services", "events", "logs x", "restart x", "leave"):
        done = cli(*words.split(), expect=3)
        assert "cannot be reached" in done.stderr
        assert done.stdout == ""
    assert "agent.running" in cli("verify", expect=1).stdout


def test_an_agent_that_happens_to_use_the_port_is_not_taken_for_the_own_one(
    cli: Any, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        # It would answer anything; asked it must not be.
        port = other.getsockname()[1]
        cli("init", "--name", "x", "--bind", "127.0.0.1:1")
        config = tmp_path / "agent.toml"
        config.write_text(
            config.read_text().replace('# bind = "127.0.0.1:8081"', f'bind = "127.0.0.1:{port}"')
        )
        assert "agent.sock" in cli("members", expect=3).stderr
        row = json.loads(cli("verify", "--json", expect=1).stdout)["checks"][-1]
        assert (row["name"], row["status"]) == ("agent.running", "fail")
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_an_agent_that_does_not_answer_fails_to_verify(cli: Any, tmp_path: Path) -> None:
    cli("init", "--name", "x", "--bind", "127.0.0.1:1")
    (tmp_path / "data").mkdir()
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "data" / "agent.sock"))
        agent.listen()
        thread = threading.Thread(target=_refuse, args=(agent,))
        thread.start()
        row = json.loads(cli("verify", "--json", expect=1).stdout)["checks"][-1]
        thread.join(30)
    assert (row["name"], row["status"]) == ("agent.running", "fail")
    assert "out of order" in row["detail"]


def _refuse(agent: socket.socket) -> None:
    """Answer one request with an error."""
    body = b'{"error": {"message": "out of order"}}'
    connection, _ = agent.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("--show-completion bash", 0),
        ("agent --help", 0),
        ("demo --help", 0),
        ("plugins --help", 0),
        ("nothing", 2),
        ("status --nothing", 2),
        ("logs", 2),
        ("demo --nodes 1", 2),
        ("demo --duration soon", 2),
        ("status --config /no/such/file.toml", 2),
    ],
)
def test_exit_codes(cli: Any, words: str, code: int) -> None:
    done = cli(*words.split(), expect=code)
    assert done.stdout if code == 0 else done.stderr
