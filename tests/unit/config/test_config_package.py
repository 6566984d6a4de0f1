"""The package as a whole: what it exports, what importing it costs, its documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import constellation_core.config

ROOT = Path(__file__).resolve().parents[3]


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_every_exported_name_is_there() -> None:
    for name in constellation_core.config.__all__:
        exported = getattr(constellation_core.config, name)
        assert callable(exported), name
    assert dir(constellation_core.config) == sorted(constellation_core.config.__all__)


def test_the_list_of_plugins_is_read_without_the_models() -> None:
    loaded = modules_after("from constellation_core.config import peek_enabled_plugins")
    assert not loaded & {"pydantic", "tomlkit", "cryptography", "asyncio"}


def test_the_settings_are_read_with_nothing_heavier_than_pydantic() -> None:
    loaded = modules_after("from constellation_core.config import load, ClusterKey, FileSecrets")
    assert "pydantic" in loaded
    assert not loaded & {"tomlkit", "cryptography", "aiohttp", "pluggy", "stevedore", "typer"}


def test_the_documentation_is_up_to_date() -> None:
    script = ROOT / "scripts" / "generate_configuration_docs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
