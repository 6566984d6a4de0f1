"""A document that a script writes, and that a test compares with what stands in the repository."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SHOWN = 40


def write_or_check(arguments: Sequence[str], script: str, name: str, text: str) -> int:
    """Write ``docs/NAME``, or with ``--check`` compare it with ``text``; 0 when all is well."""
    target = ROOT / "docs" / name
    if list(arguments) != ["--check"]:
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return 0
    present = target.read_text(encoding="utf-8") if target.exists() else ""
    if present == text:
        return 0
    print(f"docs/{name} is out of date; run scripts/{script}")
    lines = difflib.unified_diff(present.splitlines(), text.splitlines(), lineterm="")
    print("\n".join(list(lines)[:_SHOWN]))
    return 1
