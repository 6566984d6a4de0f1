"""What holds for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
EXCLUDED = {".git", ".venv", ".tox", "__pycache__", ".hypothesis", "node_modules"}
HEAVY = ("aiohttp", "pydantic", "cryptography", "msgpack", "rich", "stevedore", "orjson")


def files(*patterns: str) -> list[Path]:
    return [
        path
        for pattern in patterns
        for path in ROOT.rglob(pattern)
        if path.is_file()
        and not any(p in EXCLUDED or p.endswith("_cache") for p in path.relative_to(ROOT).parts)
    ]


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_is_a_distribution_of_its_own(plugin: Path) -> None:
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    package = plugin / plugin.name.replace("-", "_")
    assert project["name"] == plugin.name
    assert project["readme"] == "README.md"
    assert any(each.startswith("constellation-core") for each in project["dependencies"])
    assert len((plugin / "README.md").read_text().splitlines()) > 10
    assert (package / "py.typed").exists()
    assert list((plugin / "tests").glob("test_*.py"))


def test_every_plugin_is_in_the_environments_that_tox_makes() -> None:
    text = (ROOT / "tox.ini").read_text()
    for plugin in PLUGINS:
        assert f"plugins/{plugin.name}" in text


def test_pins_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for line in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( ; .*)?", line), line
    assert len(pins) > 20


def test_links_in_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in files("*.md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not broken


def test_modules_are_small() -> None:
    large = {
        str(path.relative_to(ROOT)): lines
        for path in files("constellation_core/**/*.py", "plugins/*/constellation_plugin_*/**/*.py")
        if (lines := len(path.read_text().splitlines())) > 420
    }
    assert not large


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom constellation_core.cli import main\nsys.argv[1:] = ['--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["HEAVY"], done.stdout + done.stderr
