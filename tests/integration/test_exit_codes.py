"""Exit codes mean something, and errors go to standard error."""

from __future__ import annotations

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
