"""Loading: precedence, origins, and errors that name their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from constellation_core.config import Address, ConfigError, Settings, find_config, load
from constellation_core.config.loading import Loaded
from constellation_core.config.problems import Problem
from constellation_core.gossip.config import GossipConfig

CONTRACT = """\
[agent]
name = "node-a"                 # default: $TS_HOSTNAME, else the host name
domain = "example.com"          # $DOMAIN
region = "eu"
data_dir = "/var/lib/constellation"
config_path = "/opt/constellation/config"    # $CONFIG_PATH, service volumes
secrets_path = "/opt/constellation/secrets"  # $SECRETS_PATH

[gossip]
bind = "100.64.0.1:7946"
join = ["node-b:7946", "node-c:7946"]

[consensus]
bind = "100.64.0.1:7947"
voters = 3                      # how many agents hold the log: 1, 3, 5 or 7

[api]
bind = "127.0.0.1:8081"

[plugins]
enabled = ["docker", "monitor", "traefik", "tailscale", "dns", "cloudflare"]

[plugins.cloudflare]
zone_id = "..."                 # $CLOUDFLARE_ZONE_ID
token_file = "cf-api-token.txt" # under secrets_path
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write_file(text: str) -> Path:
        path = Path("agent.toml")
        path.write_text(text)
        return path

    return write_file


def failing(text: str, write: Write, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write(text), environ)
    return str(caught.value).splitlines()


def problems(text: str, write: Write, **environ: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(write(text), environ)
    return caught.value.problems


def loaded(text: str, write: Write, **environ: str) -> Loaded:
    return load(write(text), environ)


def test_the_file_of_the_contract_loads(write: Write) -> None:
    settings = loaded(CONTRACT, write).settings
    assert settings.agent.name == "node-a"
    assert settings.gossip.join == (Address("node-b", 7946), Address("node-c", 7946))
    assert settings.consensus.voters == 3
    assert settings.api.socket == Path("/var/lib/constellation/agent.sock")
    assert settings.plugins.enabled[-1] == "cloudflare"
    assert settings.plugins.tables["cloudflare"]["token_file"] == "cf-api-token.txt"


def test_an_empty_file_gives_the_defaults(write: Write) -> None:
    settings = loaded("", write).settings
    assert settings.gossip.bind == Address("0.0.0.0", 7946)
    assert settings.gossip.encryption is True
    assert settings.api.control is False
    assert settings.gossip.key_file == Path("cluster.key").absolute()
    assert settings.agent.name == os.uname().nodename


def test_settings_are_immutable_through_and_through(write: Write) -> None:
    settings = loaded("[plugins.x]\na = {b = [1]}\n", write).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.agent.name = "other"  # type: ignore[misc]  # the assignment is what is tested
    table = settings.plugins.tables["x"]
    with pytest.raises(TypeError):
        table["a"]["b"] = 2
    assert table["a"]["b"] == (1,)
    assert "tables" not in repr(settings)


def test_the_example_of_the_contract_is_rendered_as_promised(write: Write) -> None:
    text = "\n" * 10 + '[gossip]\nbnid = "127.0.0.1:7946"\n'
    assert failing(text, write) == [
        "agent.toml:12: [gossip] bnid: unknown key; did you mean 'bind'?"
    ]


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ('[gosip]\nbind = "x"', 1, "gosip", "unknown section; did you mean [gossip]?"),
        ("[gossip]\nvoters = 3", 2, "gossip.voters", "it belongs under [consensus]"),
        ('bind = "x"', 1, "", "'bind' stands outside of any section; it belongs under"),
        ("gossip = 5", 1, "gossip", "expected a table [gossip]"),
        ("[[gossip]]", 1, "gossip", "expected a table [gossip]"),
        ("[agent]\ndomain = 5", 2, "agent.domain", "expected a string, found 5"),
        ("[agent]\nname = 'a b'", 2, "agent.name", "not a usable node name"),
        ("[agent]\ndata_dir = ''", 2, "agent.data_dir", "expected a path"),
        ("[agent]\nlog_level = 'all'", 2, "agent.log_level", "'debug', 'info', 'warning' or"),
        ("[gossip]\nencryption = 'no'", 2, "gossip.encryption", "expected true or false"),
        ("[gossip]\nencryption = 0", 2, "gossip.encryption", "expected true or false"),
        ("[gossip]\nprobe_interval = '1'", 2, "gossip.probe_interval", "expected a number"),
        ("[gossip]\nprobe_interval = inf", 2, "gossip.probe_interval", "number"),
        ("[gossip]\nprobe_interval = 61", 2, "gossip.probe_interval", "at most 60"),
        ("[gossip]\nindirect_probes = true", 2, "gossip.indirect_probes", "an integer"),
        ("[gossip]\nindirect_probes = 1.5", 2, "gossip.indirect_probes", "an integer"),
        ("[gossip]\nprobe_timeout = 0.5", 1, "gossip", "must be less than probe_interval"),
        ("[gossip]\njoin = 'a:1'", 2, "gossip.join", "expected a list, found 'a:1'"),
        ("[gossip]\njoin = [\n 'a:1',\n 'b',\n]", 4, "gossip.join", "the port is missing"),
        ("[gossip]\njoin = ['a:1', 'a:1']", 2, "gossip.join", "'a:1' stands there twice"),
        ("[consensus]\nvoters = 4", 2, "consensus.voters", "expected 1, 3, 5 or 7, found 4"),
        ("[consensus]\nvoters = true", 2, "consensus.voters", "expected 1, 3, 5 or 7"),
        ("[api]\ncontrol = true", 1, "api", "control = true needs token_file"),
        ("[api]\nsocket_mode = '0666'", 2, "api.socket_mode", "the last digit must be 0"),
        ("[api]\nsocket_mode = '0460'", 2, "api.socket_mode", "owner must be able"),
        ("[api]\nsocket_mode = 660", 2, "api.socket_mode", "in quotes"),
        (f"[api]\nsocket = '/{'x' * 107}'", 2, "api.socket", "108 bytes, the system allows 107"),
        ("[plugins]\nenabld = []", 2, "plugins.enabld", "did you mean 'enabled'?"),
        ("[plugins]\nenabled = ['Dns']", 2, "plugins.enabled", "try 'dns'"),
        ("api.bind = 'x'", 1, "api.bind", "the port is missing"),
        ("api = {bind = 5}", 1, "api.bind", "expected a string"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    write: Write, text: str, line: int, key: str, says: str
) -> None:
    (problem,) = problems(text, write)
    assert (problem.source, problem.line, problem.key) == ("agent.toml", line, key)
    assert says in str(problem)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(write: Write) -> None:
    text = '[api]\nbnd = 1\n[agent]\nname = "-"\nx = 1\n[gossip]\njoin = ["a", "b:1", "c:0"]\n'
    lines = [problem.line for problem in problems(text, write, CONSTELLATION_API_BIND="x")]
    assert lines == [2, 4, 5, 7, 7, None]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[agent]\nname = \n", 2, "not valid TOML"),
        ("[agent]\nname = 'a'\nname = 'b'\n", 3, "not valid TOML: cannot overwrite a value"),
        ("a = [1,\n2\n", 2, "at the end of the file"),
        ("a = " + "[" * 20_000, None, "nested too deeply"),
        ("[agent\n", 1, "not valid TOML"),
    ],
)
def test_broken_toml_is_told_with_its_line(
    write: Write, text: str, line: int | None, says: str
) -> None:
    (problem,) = problems(text, write)
    assert problem.line == line
    assert says in problem.message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"[agent]\nname = 'a\xff'\n")
    with pytest.raises(ConfigError, match=r"agent\.toml:2: is not UTF-8"):
        load(path, {})
    path.write_bytes("\ufeff[agent]\n".encode())
    with pytest.raises(ConfigError, match="byte order mark"):
        load(path, {})
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(path, {})


def test_no_file_a_folder_and_a_forbidden_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="constellation init"):
        load(tmp_path / "agent.toml", {})
    with pytest.raises(ConfigError, match=r"is a folder; name the file in it, such as .*toml"):
        load(tmp_path, {})
    path = tmp_path / "x" / "agent.toml"
    path.parent.write_text("")
    with pytest.raises(ConfigError, match="Not a directory"):
        load(path, {})


def test_a_file_that_may_not_be_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write("")
    # Root may read every file, so the refusal is played.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"agent\.toml: may not be read by this user"):
        load(path, {})


def test_which_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "system.toml"
    monkeypatch.setattr("constellation_core.config.lookup.SYSTEM_FILE", system)
    with pytest.raises(ConfigError, match="constellation init"):
        find_config(None, {})
    system.touch()
    assert find_config(None, {}) == system
    (tmp_path / "agent.toml").touch()
    assert find_config(None, {"CONSTELLATION_CONFIG": ""}) == Path("agent.toml")
    assert find_config(None, {"CONSTELLATION_CONFIG": "c.toml"}) == Path("c.toml")
    option = Path("option.toml")
    assert find_config(option, {"CONSTELLATION_CONFIG": "c.toml"}) == option


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "agent.toml"
    path.parent.mkdir()
    path.write_text(
        "[agent]\nservices = 'services.py'\ndata_dir = 'd'\nsecrets_path = 's'\n"
        "[api]\ntoken_file = 't'\n"
    )
    settings = load(path, {}).settings
    assert settings.agent.services == path.parent / "services.py"
    assert settings.gossip.key_file == path.parent / "cluster.key"
    assert settings.api.socket == path.parent / "d" / "agent.sock"
    assert settings.api.token_file == path.parent / "s" / "t"


def test_settings_can_be_made_in_code() -> None:
    assert Settings().gossip.key_file == Path("cluster.key")


def test_the_timings_are_those_of_the_protocol() -> None:
    ours, protocol = Settings().gossip, GossipConfig("node-a")
    assert ours.indirect_probes == protocol.indirect_checks
    for name in (
        "probe_interval",
        "probe_timeout",
        "suspicion_multiplier",
        "gossip_interval",
        "gossip_nodes",
        "push_pull_interval",
        "rejoin_interval",
        "forget_dead",
    ):
        assert getattr(ours, name) == getattr(protocol, name), name


def test_what_is_doubtful_is_a_warning(write: Write) -> None:
    text = "[gossip]\nencryption = false\n[plugins]\nenabled=['traefik']\n[plugins.trafik]\n"
    warnings = [str(each) for each in loaded(text, write).warnings]
    assert len(warnings) == 2
    assert "did you mean [plugins.traefik]?" in warnings[0]
    assert "can speak for any node" in warnings[1]
