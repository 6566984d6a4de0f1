"""The document of all fields and the examples say what is so."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import constellation_core
from constellation_core import Bind, Service
from constellation_core.model.canonical import from_canonical, to_canonical
from constellation_core.model.definitions import DEFINITIONS
from constellation_core.model.together import problems_between
from constellation_core.workloads.loader import ServicesError, load_services

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "services.md").read_text()
SITE = ROOT / "examples" / "site"


def test_the_document_is_up_to_date() -> None:
    script = ROOT / "scripts" / "generate_services_docs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_field_is_in_the_document(name: str) -> None:
    section = DOCUMENT.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
    for field in fields(DEFINITIONS[name]):
        if field.name != "kind":
            row = re.search(
                rf"^\| `{field.name}` \| (.+) \| (.+) \| (.+) \|$", section, re.MULTILINE
            )
            assert row is not None, f"{name}.{field.name}"
            assert all(cell.strip() for cell in row.groups())


def test_every_definition_can_be_imported_from_the_top() -> None:
    assert set(DEFINITIONS) <= set(constellation_core.__all__)
    assert all(getattr(constellation_core, name) is kind for name, kind in DEFINITIONS.items())


def test_the_example_in_the_document_is_a_service(tmp_path: Path) -> None:
    code = DOCUMENT.partition("```python\n")[2].partition("```")[0]
    path = tmp_path / "services.py"
    path.write_text(code)
    (service,) = load_services(path)
    assert service.replicas == 2


def test_the_mistake_in_the_document_is_told_so(tmp_path: Path) -> None:
    told = DOCUMENT.partition("## Mistakes")[2].partition("```\n")[2].partition("\n```")[0]
    path = tmp_path / "services.py"
    path.write_text(
        "from constellation_core import Service\n\n"
        "web = Service('web', image='nginx', mode='globl')\n"
    )
    with pytest.raises(ServicesError) as caught:
        load_services(path)
    assert str(caught.value) == told.replace("services.py", str(path))


@pytest.fixture(scope="module")
def site() -> dict[str, Service]:
    return {service.name: service for service in load_services(SITE / "services.py")}


def test_the_site_is_a_whole(site: dict[str, Service]) -> None:
    assert set(site) == {"web", "api", "worker", "postgres"}
    assert list(problems_between(list(site.values()), known=())) == []
    for service in site.values():
        assert from_canonical(to_canonical(service)) == service


def test_the_site_brings_the_files_that_it_mounts(site: dict[str, Service]) -> None:
    sources = {
        mount.source
        for service in site.values()
        for mount in service.volumes
        if isinstance(mount, Bind)
    }
    assert sources == {"web/default.conf", "web/html"}
    assert all((SITE / "config" / source).exists() for source in sources)


def test_the_site_keeps_to_least_privilege(site: dict[str, Service]) -> None:
    for service in site.values():
        assert not service.security.capabilities
        assert service.check is not None
        assert service.resources.memory_limit_bytes
    assert site["postgres"].user
    assert all("PASSWORD" not in name or name.endswith("_FILE") for name in site["api"].env)


def test_what_the_readme_of_the_site_shows_is_what_is_printed(site: dict[str, Service]) -> None:
    shown = (SITE / "README.md").read_text()
    for service in site.values():
        line = f"{service.name} {service.update_order} {service.overlap.reason or '-'}"
        assert f"\n{line}\n" in shown
