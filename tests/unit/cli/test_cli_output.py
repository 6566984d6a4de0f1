"""What the command line shows of words that come from elsewhere."""

from __future__ import annotations

from constellation_core.cli.output import escaped


def test_a_terminal_obeys_nothing_that_came_from_elsewhere() -> None:
    assert escaped("a\x1b[2Jb\x07\u202ec") == "a\ufffd[2Jb\ufffd\ufffdc"
    assert escaped("[red]two\nlines") == "\\[red]two\nlines"
