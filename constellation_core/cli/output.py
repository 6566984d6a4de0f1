"""How commands print: tables for people, JSON for machines, colours that mean something."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

GOOD, DOUBTFUL, BAD, QUIET = "green", "yellow", "red", "dim"

_STYLES = {
    "alive": GOOD,
    "healthy": GOOD,
    "enabled": GOOD,
    "ok": GOOD,
    "running": GOOD,
    "suspect": DOUBTFUL,
    "starting": DOUBTFUL,
    "warn": DOUBTFUL,
    "waiting": DOUBTFUL,
    "dead": BAD,
    "failed": BAD,
    "fail": BAD,
    "unhealthy": BAD,
    "crash-looping": BAD,
    "unreachable": BAD,
    "left": QUIET,
    "stopped": QUIET,
    "available": QUIET,
    "skip": QUIET,
}


def print_json(document: Any) -> None:
    """One JSON document on a line of its own."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """A line of plain text."""
    sys.stdout.write(text + "\n")


def error(text: str) -> None:
    """A problem, on standard error."""
    sys.stderr.write(f"error: {text}\n")


def warn(text: str) -> None:
    """A warning, on standard error."""
    sys.stderr.write(f"warning: {text}\n")


def style_of(word: str) -> str | None:
    """The colour that a state has everywhere."""
    return _STYLES.get(word)


def styled(word: str) -> str:
    """A word for a state, in the colour that it has everywhere."""
    style = _STYLES.get(word)
    return f"[{style}]{word}[/{style}]" if style else escaped(word)


def escaped(text: object) -> str:
    """Text that may hold anything, for a cell of a table; a terminal obeys nothing in it."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(text)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """A table; cells may have markup, so what comes from elsewhere must be :func:`escaped`."""
    listed = list(rows)
    if not listed:
        say(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in listed:
        table.add_row(*row)
    console().print(table)


def console() -> Console:
    """Standard output; without a terminal wide enough for a whole row, and without colours."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def duration(seconds: float) -> str:
    """``3.2 s``, ``5 min``, ``2 h``, ``4 d``."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (129_600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} d"


def size(count: float) -> str:
    """``900 B``, ``12 kB``, ``3.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
