"""Settings from variables: names, reading of text, precedence, mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from constellation_core.config import Address, ConfigError, load, peek_enabled_plugins
from constellation_core.config.annotations import keys_of
from constellation_core.config.environment import owner_of, read_text, variable_of
from constellation_core.config.loading import Loaded
from constellation_core.config.settings import SECTIONS


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("agent.toml")


Load = Callable[..., Loaded]


@pytest.fixture
def load_with(path: Path) -> Load:
    def load_text(text: str = "", **environ: str) -> Loaded:
        path.write_text(text)
        return load(path, environ)

    return load_text


EXAMPLES = {
    "agent.name": ("node-z", "node-z"),
    "agent.domain": ("example.org", "example.org"),
    "agent.region": ("eu-1", "eu-1"),
    "agent.data_dir": ("/d", Path("/d")),
    "agent.config_path": ("/c", Path("/c")),
    "agent.secrets_path": ("/s", Path("/s")),
    "agent.services": ("/s.py", Path("/s.py")),
    "agent.log_level": ("debug", "debug"),
    "agent.log_format": ("json", "json"),
    "gossip.bind": ("127.0.0.1:1", Address("127.0.0.1", 1)),
    "gossip.advertise": ("[::1]:2", Address("::1", 2)),
    "gossip.join": ("a:1, b:2", (Address("a", 1), Address("b", 2))),
    "gossip.key_file": ("/k", Path("/k")),
    "gossip.encryption": ("off", False),
    "gossip.probe_interval": ("2.5", 2.5),
    "gossip.probe_timeout": ("0.25", 0.25),
    "gossip.indirect_probes": ("1", 1),
    "gossip.suspicion_multiplier": ("5", 5),
    "gossip.gossip_interval": ("1", 1.0),
    "gossip.gossip_nodes": ("4", 4),
    "gossip.push_pull_interval": ("60", 60.0),
    "gossip.rejoin_interval": ("20", 20.0),
    "gossip.forget_dead": ("3600", 3600.0),
    "catalog.bytes_per_second": ("20000", 20_000),
    "catalog.damping": ("10", 10.0),
    "consensus.bind": ("127.0.0.1:3", Address("127.0.0.1", 3)),
    "consensus.advertise": ("127.0.0.1:5", Address("127.0.0.1", 5)),
    "consensus.voters": ("5", 5),
    "consensus.vote": ("false", False),
    "consensus.settle": ("1", 1.0),
    "consensus.stable_after": ("10", 10.0),
    "consensus.catch_up": ("20", 20.0),
    "consensus.replace_after": ("600", 600.0),
    "api.bind": ("127.0.0.1:4", Address("127.0.0.1", 4)),
    "api.socket": ("/a.sock", Path("/a.sock")),
    "api.socket_mode": ("600", "0600"),
    "api.control": ("false", False),
    "api.token_file": ("/t", Path("/t")),
    "plugins.enabled": ("a,b", ("a", "b")),
}


def test_every_setting_has_an_example_here() -> None:
    keys = {f"{name}.{key}" for name, model in SECTIONS.items() for key in keys_of(model)}
    assert keys == EXAMPLES.keys()


@pytest.mark.parametrize("key", sorted(EXAMPLES))
def test_every_setting_can_come_from_its_variable(load_with: Load, key: str) -> None:
    text, value = EXAMPLES[key]
    section, name = key.split(".")
    variable = variable_of(section, name)
    loaded = load_with("", **{variable: text})
    assert getattr(getattr(loaded.settings, section), name) == value
    assert str(loaded.origins[key]) == f"${variable}"


def test_precedence_and_origins(load_with: Load) -> None:
    text = "\n[agent]\nname = 'file'\n"
    alias = {"TS_HOSTNAME": "alias", "DOMAIN": "example.com", "CONFIG_PATH": ""}
    loaded = load_with(text, **alias)
    assert loaded.settings.agent.name == "file"
    assert str(loaded.origins["agent.name"]) == "agent.toml:3"
    assert loaded.settings.agent.domain == "example.com"
    assert str(loaded.origins["agent.domain"]) == "$DOMAIN"
    assert loaded.settings.agent.config_path == Path("/opt/constellation/config")
    assert "agent.config_path" not in loaded.origins
    loaded = load_with(text, CONSTELLATION_AGENT_NAME="variable", **alias)
    assert loaded.settings.agent.name == "variable"
    assert load_with("", **alias).settings.agent.name == "alias"


def test_an_empty_list_overrides_the_file(load_with: Load) -> None:
    loaded = load_with("[gossip]\njoin = ['a:1']", CONSTELLATION_GOSSIP_JOIN="")
    assert loaded.settings.gossip.join == ()


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("CONSTELLATION_GOSSIP_BNID", "x", "did you mean $CONSTELLATION_GOSSIP_BIND?"),
        ("CONSTELLATION_CONFG", "x", "did you mean $CONSTELLATION_CONFIG?"),
        ("CONSTELLATION_QQQ", "x", "unknown variable"),
        ("CONSTELLATION_PLUGINS_ENABLD", "x", "did you mean $CONSTELLATION_PLUGINS_ENABLED?"),
        ("CONSTELLATION_PLUGINS_TRAFIK_A", "x", "did you mean $CONSTELLATION_PLUGINS_TRAEFIK_A?"),
        ("CONSTELLATION_GOSSIP_BIND", "x", "the port is missing (found 'x')"),
        ("CONSTELLATION_GOSSIP_BIND", "", "the port is missing"),
        ("CONSTELLATION_GOSSIP_ENCRYPTION", "maybe", "expected true or false, found 'maybe'"),
        ("CONSTELLATION_GOSSIP_PROBE_INTERVAL", "1s", "expected a number, found '1s'"),
        ("CONSTELLATION_GOSSIP_PROBE_INTERVAL", "nan", "number"),
        ("CONSTELLATION_CONSENSUS_VOTERS", "2", "expected 1, 3, 5 or 7, found '2'"),
        ("CONSTELLATION_AGENT_DATA_DIR", "", "expected a path"),
        ("CONSTELLATION_AGENT_NAME", "\udcff", "is not UTF-8"),
        ("TS_HOSTNAME", "a b", "not a usable node name"),
    ],
)
def test_mistakes_name_the_variable(load_with: Load, variable: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_with("[plugins]\nenabled = ['traefik']", **{variable: text})
    assert any(
        problem.source == f"${variable}" and problem.line is None and says in problem.message
        for problem in caught.value.problems
    )


def test_a_variable_for_a_plugin_that_is_not_enabled_is_a_warning(load_with: Load) -> None:
    loaded = load_with("", CONSTELLATION_PLUGINS_REDIS_URL="x", CONSTELLATION_CONFIG="y")
    assert [str(each) for each in loaded.warnings] == [
        "$CONSTELLATION_PLUGINS_REDIS_URL: has no effect: no enabled plugin takes it"
    ]


def test_the_raw_tables_are_no_setting(load_with: Load) -> None:
    with pytest.raises(ConfigError, match="unknown variable"):
        load_with("", CONSTELLATION_PLUGINS_TABLES="{x = {}}")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (bool, "Yes", True),
        (bool | None, "0", False),
        (int, " 7 ", 7),
        (int | str, "7", 7),
        (int | str, "x", "x"),
        (float, "1e3", 1000.0),
        (str, " kept ", " kept "),
        (list[int], "1, 2,", [1, 2]),
        (tuple[str, ...] | None, "a", ["a"]),
        (set[bool], "on,off", [True, False]),
        (dict[str, int], "{a = 1}", {"a": 1}),
        (dict[str, int], "a=1", "a=1"),
        (list[dict[str, int]], "[{a = 1}]", [{"a": 1}]),
        (Literal[1, 3], "3", 3),
        (Literal["1"], "1", "1"),
        (int, "9" * 5000, "9" * 5000),
    ],
)
def test_text_is_read_by_type(annotation: Any, text: str, value: Any) -> None:
    assert read_text(annotation, text) == value


def test_the_plugin_with_the_longest_name_owns_a_variable() -> None:
    plugins = ["my", "my-dns", "other"]
    assert variable_of("plugins.my-dns", "zone") == "CONSTELLATION_PLUGINS_MY_DNS_ZONE"
    assert owner_of("CONSTELLATION_PLUGINS_MY_DNS_ZONE", plugins) == "my-dns"
    assert owner_of("CONSTELLATION_PLUGINS_MY_DNS_", plugins) == "my"
    assert owner_of("CONSTELLATION_PLUGINS_NEW_X", plugins) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[plugins]\nenabled = ['a', 'b', 'a']", ("a", "b")),
        ("[plugins]\nenabled = 'a'", ()),
        ("[plugins]\nenabled = [1]", ()),
        ("plugins = 1", ()),
        ("plugins = [", ()),
        ("", ()),
    ],
)
def test_peeking_at_the_plugins_never_fails(path: Path, text: str, names: tuple[str]) -> None:
    path.write_text(text)
    assert peek_enabled_plugins(path, {}) == names
    assert peek_enabled_plugins(None, {}) == names
    assert peek_enabled_plugins(Path("nowhere.toml"), {}) == ()
    assert peek_enabled_plugins(path, {"CONSTELLATION_PLUGINS_ENABLED": "c, d"}) == ("c", "d")


@pytest.mark.parametrize(
    "variable", ["CONSTELLATION_DEBUG", "CONSTELLATION_AGENT", "CONSTELLATION_INSTANCE"]
)
def test_variables_that_are_no_settings_are_let_pass(load_with: Load, variable: str) -> None:
    # The first is a hint's advice, the others are in the environment of every instance.
    assert not load_with("", **{variable: "1"}).warnings
