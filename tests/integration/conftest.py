"""What integration tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Cli:
    """The ``constellation`` command, as a user runs it.

    Attributes:
        folder: where it runs.
        environment: added to the environment, which has none of the tester's own settings.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str | Path, expect: int | None = 0, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run it; fails the test when the exit code is another than ``expect``."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CONSTELLATION")}
        done = subprocess.run(
            [sys.executable, "-m", "constellation_core.cli", *map(str, arguments)],
            cwd=self.folder,
            env={**clean, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if expect is not None:
            assert done.returncode == expect, (done.stdout, done.stderr)
        return done


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command, run in the test's own folder."""
    return Cli(tmp_path)
