"""The example of the README does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    instances, *verdicts, moved = capsys.readouterr().out.splitlines()
    assert instances.startswith("{'web': {'node-a': ")
    assert [each.split()[0] for each in verdicts[:3]] == ["node-a", "node-b", "node-c"]
    assert verdicts[2] == "node-c (0): it has the tag spot"
    assert moved == "web: moves from node-a to node-b"
