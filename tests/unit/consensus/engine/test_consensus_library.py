"""The engine is made for one version of PySyncObj, and says so."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from constellation_core.consensus.engine.library import PINNED, Internals

ROOT = Path(__file__).parents[4]


def test_another_version_of_the_library_is_not_used() -> None:
    code = (
        "import pysyncobj.version\npysyncobj.version.VERSION = '0.3.18'\n"
        "import constellation_core.consensus.engine"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"made for PySyncObj {PINNED}, not 0.3.18" in done.stderr


def test_a_name_that_the_library_lacks_is_named() -> None:
    with pytest.raises(ImportError, match="raftCurrentTerm"):
        Internals(object())


def test_the_version_is_pinned_where_it_is_installed_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"pysyncobj=={PINNED}" in project["dependencies"]


def test_who_needs_no_engine_does_not_import_the_library() -> None:
    code = "import constellation_core.consensus, sys\nassert 'pysyncobj' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
