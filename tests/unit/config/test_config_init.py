"""What ``constellation init`` writes."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from pathlib import Path

import pytest

from constellation_core.config import (
    Address,
    ClusterKey,
    ConfigError,
    SecretError,
    Settings,
    initialise,
    load,
)
from constellation_core.config.annotations import keys_of
from constellation_core.config.settings import SECTIONS
from constellation_core.config.template import render
from constellation_core.workloads.loader import load_services


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_what_is_written_loads_and_only_the_owner_reads_the_key(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        done = initialise(tmp_path / "agent.toml", name="node-a", join=["b:1"])
    finally:
        os.umask(before)
    assert mode(done.key_file) == 0o600
    assert mode(done.config) == 0o644
    settings = load(done.config, {}).settings
    assert settings.agent.name == "node-a"
    assert settings.agent.data_dir == tmp_path / "data"
    assert settings.gossip.join == (Address("b", 1),)
    assert settings.gossip.key_file == done.key_file
    assert ClusterKey.read(done.key_file).fingerprint() == done.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.toml", "cluster.key"]
    assert done.key_created
    assert "is a new key" in done.next_steps[0]


def test_every_setting_is_explained(tmp_path: Path) -> None:
    text = initialise(tmp_path).config.read_text()
    for section, model in SECTIONS.items():
        assert f"\n[{section}]\n" in text
        for key, field in keys_of(model).items():
            assert re.search(rf"^(# (e\.g\. )?)?{key} = ", text, re.MULTILINE)
            assert str(field.description)[:40] in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_what_is_commented_out_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(re.sub(r"^# (\w+ = )", r"\1", render({}), flags=re.MULTILINE))
    active = tomllib.loads(path.read_text())
    assert active["gossip"]["probe_interval"] == 0.5
    with_defaults = load(path, {}).settings
    path.write_text("")
    assert with_defaults == load(path, {}).settings


def test_the_examples_load_too(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(re.sub(r"^# e\.g\. ", "", render({}), flags=re.MULTILINE))
    settings = load(path, {}).settings
    assert settings.gossip.join[0] == Address("node-b", 7946)
    assert settings != Settings()


def test_the_environment_has_no_part_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSTELLATION_NONSENSE", "x")
    assert initialise(tmp_path).config == tmp_path / "agent.toml"
    assert initialise(tmp_path / "new").config == tmp_path / "new" / "agent.toml"


@pytest.mark.parametrize("name", ["agent.toml", "cluster.key", "services.py"])
def test_nothing_is_overwritten_and_nothing_else_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=f"{name}: exists already"):
        initialise(tmp_path / "agent.toml", services=True)
    assert (tmp_path / name).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "cluster.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="exists already"):
        initialise(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_node_takes_the_key_of_the_first(tmp_path: Path) -> None:
    first = initialise(tmp_path / "a" / "agent.toml")
    second = initialise(
        tmp_path / "b" / "agent.toml", key_file=first.key_file, join=["127.0.0.1:7946"]
    )
    assert second.fingerprint == first.fingerprint
    assert not second.key_created
    assert second.key_file == tmp_path / "b" / "cluster.key"
    assert mode(second.key_file) == 0o600
    assert not any("new key" in step for step in second.next_steps)


def test_it_says_that_two_hosts_protect_nothing_and_what_does(tmp_path: Path) -> None:
    usual = " ".join(initialise(tmp_path / "a").next_steps)
    assert "two protect nothing" in usual
    assert "--witness" in usual
    assert load(tmp_path / "a" / "agent.toml", {}).settings.consensus.voters == 3
    lone = initialise(tmp_path / "b", voters=1)
    assert "while its host is down" in " ".join(lone.next_steps)
    assert load(lone.config, {}).settings.consensus.voters == 1
    with pytest.raises(ConfigError, match="voters"):
        initialise(tmp_path / "c", voters=2)
    assert not (tmp_path / "c").exists() or not any((tmp_path / "c").iterdir())


def test_a_key_that_lies_there_already_can_be_used(tmp_path: Path) -> None:
    key = ClusterKey.generate()
    path = tmp_path / "cluster.key"
    path.touch(mode=0o600)
    path.write_bytes(key.to_file_content())
    done = initialise(tmp_path, key_file=path)
    assert done.fingerprint == key.fingerprint()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(ClusterKey.generate().to_file_content())
    path.chmod(0o644)
    with pytest.raises(SecretError, match=f"chmod 600 {path}"):
        initialise(tmp_path / "n" / "agent.toml", key_file=path)
    assert not (tmp_path / "n").exists()


def test_the_sample_of_services_loads(tmp_path: Path) -> None:
    done = initialise(tmp_path, services=True)
    assert done.services is not None
    assert load(done.config, {}).settings.agent.services == done.services
    (service,) = load_services(done.services)
    assert service.name == "hello"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "a b"}, r"^\[agent\] name: 'a b' is not a usable node name"),
        ({"join": ["b"]}, r"^\[gossip\] join: expected HOST:PORT"),
        ({"bind": "x"}, r"^\[gossip\] bind: expected HOST:PORT"),
        ({"plugins": ["A"]}, r"^\[plugins\] enabled: 'A' is not a usable name"),
        ({"name": 'x"\n[gossip]\nencryption = false #'}, "not a usable node name"),
    ],
)
def test_bad_arguments_leave_nothing_behind(
    tmp_path: Path, arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        initialise(tmp_path, **arguments)  # type: ignore[arg-type]  # by name, from the table
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        initialise(tmp_path / "file" / "agent.toml")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        # The key and its folder are written; agent.toml is not.
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        initialise(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    done = initialise(tmp_path)
    assert mode(done.key_file) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.toml", "cluster.key"]
