"""Tables of plugins: their own models, the environment, and values that are never told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from constellation_core.config import (
    ClusterKey,
    ConfigError,
    PluginTable,
    Problem,
    check_config,
    load,
    rows,
    validate_plugin_table,
)
from constellation_core.config.explain import MASK
from constellation_core.config.loading import Loaded
from constellation_core.config.show import HIDDEN
from constellation_core.config.values import ConfigPath


class Upstream(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str
    port: Annotated[int, Field(ge=1)] = 80


class Proxy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    zone: str = Field(default="z", json_schema_extra={"env": "PROXY_ZONE"})
    limit: int | bool = 3
    upstreams: list[Upstream] = []
    backup: Upstream | None = None
    folder: ConfigPath = Path("files")
    source: str = Field(default="", alias="from")
    token: SecretStr | None = None
    tokens: dict[str, SecretStr] = {}

    @field_validator("token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 4:
            raise ValueError(f"{value.get_secret_value()} is too short")
        return value

    @model_validator(mode="after")
    def _not_both(self) -> Proxy:
        if self.zone == "both" and self.token:
            raise ValueError(f"not with zone: {self.token.get_secret_value()}")
        return self


HEAD = "[plugins]\nenabled = ['proxy']\n[plugins.proxy]\n"

Load = Callable[..., Loaded]


@pytest.fixture
def load_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def load_text(text: str, **environ: str) -> Loaded:
        path = Path("agent.toml")
        path.write_text(HEAD + text)
        return load(path, environ)

    return load_text


def problems_of(loaded: Loaded, model: type[BaseModel] | None = Proxy) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        validate_plugin_table("proxy", model, loaded)
    return caught.value.problems


def test_a_good_table(load_with: Load, tmp_path: Path) -> None:
    loaded = load_with("zone = 'a'\nfrom = 'x'\nupstreams = [{host = 'h'}]\n")
    table = validate_plugin_table("proxy", Proxy, loaded)
    assert table.config.zone == "a"
    assert table.config.source == "x"
    assert table.config.upstreams == [Upstream(host="h")]
    assert table.config.folder == tmp_path / "files"
    assert str(table.origins["plugins.proxy.from"]) == "agent.toml:5"


def test_variables_lie_over_the_table(load_with: Load) -> None:
    loaded = load_with(
        "limit = 1\n",
        CONSTELLATION_PLUGINS_PROXY_LIMIT="9",
        CONSTELLATION_PLUGINS_PROXY_FROM="y",
        CONSTELLATION_PLUGINS_PROXY_UPSTREAMS="[{host = 'h', port = 1}]",
        CONSTELLATION_PLUGINS_PROXY_TOKENS='{a = "secret-a"}',
        PROXY_ZONE="alias",
    )
    config = validate_plugin_table("proxy", Proxy, loaded).config
    assert (config.limit, config.source, config.zone) == (9, "y", "alias")
    assert config.upstreams == [Upstream(host="h", port=1)]
    assert config.tokens["a"].get_secret_value() == "secret-a"


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("zoen = 1", 4, "plugins.proxy.zoen", "unknown key; did you mean 'zone'?"),
        ("form = 1", 4, "plugins.proxy.form", "did you mean 'from'?"),
        ("source = 's'", 4, "plugins.proxy.source", "unknown key"),
        ("limit = 'x'", 4, "plugins.proxy.limit", "expected an integer or true or false"),
        ("upstreams = [\n{host = 'h'},\n{port = 1}]", 6, "plugins.proxy.upstreams[1].host", "miss"),
        (
            "[[plugins.proxy.upstreams]]\nhost = 'h'\nprot = 1",
            6,
            "plugins.proxy.upstreams[0].prot",
            "did you mean 'port'?",
        ),
        ("[plugins.proxy.backup]\nhost = 5", 5, "plugins.proxy.backup.host", "expected a string"),
        ("backup = 5", 4, "plugins.proxy.backup", "expected a table, found 5"),
    ],
)
def test_mistakes_have_their_place(
    load_with: Load, text: str, line: int, key: str, says: str
) -> None:
    (problem,) = problems_of(load_with(text))
    assert (problem.line, problem.key) == (line, key)
    assert says in problem.message


def test_a_missing_setting_names_its_variable(load_with: Load) -> None:
    class Needy(BaseModel):
        zone_id: str

    (problem,) = problems_of(load_with(""), Needy)
    assert str(problem) == (
        "agent.toml:3: [plugins.proxy] zone_id: missing, and it has no default; "
        "set it, or $CONSTELLATION_PLUGINS_PROXY_ZONE_ID"
    )


def test_a_plugin_without_settings_refuses_a_table(load_with: Load) -> None:
    loaded = load_with("a = 1", CONSTELLATION_PLUGINS_PROXY_B="1")
    told = [str(problem) for problem in problems_of(loaded, None)]
    assert told == [
        "$CONSTELLATION_PLUGINS_PROXY_B: the plugin 'proxy' takes no settings; unset it",
        "agent.toml:3: [plugins.proxy]: this plugin takes no settings; remove the table",
    ]
    assert validate_plugin_table("proxy", None, load_with("")) == PluginTable(None, {})


def test_an_unknown_variable_of_a_plugin(load_with: Load) -> None:
    loaded = load_with("", CONSTELLATION_PLUGINS_PROXY_ZOEN="1")
    (problem,) = problems_of(loaded)
    assert problem.nearest == "CONSTELLATION_PLUGINS_PROXY_ZONE"


def test_a_model_that_breaks_is_a_problem_of_its_plugin(load_with: Load) -> None:
    class Broken(BaseModel):
        a: int = 1

        @model_validator(mode="before")
        @classmethod
        def _break(cls, value: Any) -> Any:
            raise RuntimeError("with hunter22 inside")

    (problem,) = problems_of(load_with("a = 1"), Broken)
    assert "failed with RuntimeError" in problem.message
    assert "hunter22" not in str(problem)


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("token = 123456", {}),
        ("token = 'abc'", {}),
        ("zone = 'both'\ntoken = 'hunter22'", {}),
        ("tokens = {a = ['hunter22']}", {}),
        ("tokens = 'hunter22'", {}),
        ("tokn = 'hunter22'", {}),
        ("", {"CONSTELLATION_PLUGINS_PROXY_TOKENS": "hunter22"}),
        ("", {"CONSTELLATION_PLUGINS_PROXY_TOKEN": "abc"}),
    ],
)
def test_no_error_tells_a_secret(load_with: Load, text: str, environ: dict[str, str]) -> None:
    for problem in problems_of(load_with(text, **environ)):
        told = repr(problem) + str(problem)
        assert not any(secret in told for secret in ("hunter22", "123456", "abc"))


@given(secret=st.text("hunter2", min_size=8, max_size=12), wrong=st.sampled_from([0, 1, 2]))
def test_no_error_tells_any_secret(
    tmp_path_factory: pytest.TempPathFactory, secret: str, wrong: int
) -> None:
    path = tmp_path_factory.mktemp("c") / "agent.toml"
    value = [f"'{secret}'", f"['{secret}']", f"{{a = '{secret}'}}"][wrong]
    path.write_text(f"{HEAD}zone = 'both'\ntoken = {value}\n")
    with pytest.raises(ConfigError) as caught:
        validate_plugin_table("proxy", Proxy, load(path, {}))
    assert secret not in str(caught.value)


def test_show_tells_values_and_origins_and_no_secret(load_with: Load) -> None:
    loaded = load_with(
        "token = 'hunter22'\ntokens = {a = 'hunter22'}\nbackup = {host = 'h'}\n"
        "[plugins.off]\npassword = 'hunter22'\n",
        CONSTELLATION_GOSSIP_JOIN="a:1",
    )
    table = validate_plugin_table("proxy", Proxy, loaded)
    shown = {row.key: row for row in rows(loaded, {"proxy": table})}
    assert "hunter22" not in repr(shown)
    assert shown["plugins.proxy.token"].value == MASK
    assert shown["plugins.proxy.token"].origin == "agent.toml:4"
    assert shown["plugins.proxy.token"].secret
    assert shown["plugins.proxy.backup"].value == {"host": "h", "port": 80}
    assert shown["plugins.proxy.zone"].origin == "default"
    assert shown["plugins.proxy.from"].value == ""
    assert shown["plugins.off.password"].value == HIDDEN
    assert shown["plugins.off.password"].origin == "agent.toml:8"
    assert shown["gossip.join"].value == ["a:1"]
    assert shown["gossip.join"].origin == "$CONSTELLATION_GOSSIP_JOIN"
    assert shown["gossip.bind"].value == "0.0.0.0:7946"
    assert "plugins.tables" not in shown
    assert "hunter22" not in repr(loaded)


def test_a_secret_that_is_not_set_is_shown_as_such(load_with: Load) -> None:
    loaded = load_with("")
    table = validate_plugin_table("proxy", Proxy, loaded)
    shown = {row.key: row.value for row in rows(loaded, {"proxy": table})}
    assert shown["plugins.proxy.token"] is None


def test_check_finds_what_is_wrong_with_files_and_plugins(load_with: Load, tmp_path: Path) -> None:
    loaded = load_with("zoen = 1\n[agent]\nservices = 's.py'\n[api]\ntoken_file = '/no/token'\n")
    checked = check_config(loaded, {"proxy": Proxy})
    assert [problem.key for problem in checked.problems] == [
        "plugins.proxy.zoen",
        "gossip.key_file",
        "agent.services",
        "api.token_file",
    ]
    assert "agent.toml:6: [agent] services" in str(checked.problems[2])
    checked = check_config(loaded, {}, {"proxy": "not installed"}, ["proxi"])
    assert "plugin proxy: not installed; did you mean 'proxi'?" in str(checked.problems[0])

    key = ClusterKey.generate()
    (tmp_path / "cluster.key").touch(mode=0o600)
    (tmp_path / "cluster.key").write_bytes(key.to_file_content())
    checked = check_config(load_with("zone = 'a'"), {"proxy": Proxy})
    assert checked.problems == ()
    assert checked.fingerprint == key.fingerprint()
    assert checked.plugins["proxy"].config.zone == "a"
    (tmp_path / "cluster.key").chmod(0o644)
    (problem,) = check_config(load_with("zone = 'a'"), {"proxy": Proxy}).problems
    assert f"chmod 600 {tmp_path / 'cluster.key'}" in problem.message
