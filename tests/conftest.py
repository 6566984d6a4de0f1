"""Settings for all tests of the core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no time limit for one: a run fails because of a change,
# never by chance. HYPOTHESIS_PROFILE=explore looks for new examples, ten times as many.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def owner_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin ``owner`` installed in it, which wants a lease."""
    source = Path(__file__).parent / "fixtures/working-plugins/constellation-plugin-owner"
    folder = tmp_path_factory.mktemp("owner-site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder
