"""Settings of the plugin, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from constellation_core.testing.context import FakeContext
from constellation_plugin_etcd import EtcdPlugin
from constellation_plugin_etcd.config import EtcdConfig
from constellation_plugin_etcd.making import make_backend

HTTPS = ("https://etcd.example.com:2379",)


def test_the_least_that_has_to_be_set() -> None:
    config = EtcdConfig(endpoints=HTTPS)
    assert config.prefix == "/constellation/"
    assert EtcdPlugin().config_model() is EtcdConfig


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"endpoints": ()}, "at least 1"),
        ({"endpoints": ("etcd.example.com:2379",)}, "http"),
        ({"endpoints": ("https://etcd.example.com",)}, "port"),
        ({"endpoints": ("ftp://etcd.example.com:2379",)}, "http"),
        ({"endpoints": ("https://etcd.example.com:2379/v3",)}, "host and a port"),
        ({"endpoints": ("https://etcd.example.com:x",)}, "no URL"),
        ({"endpoints": ("https://me:horse@etcd.example.com:2379",)}, "holds no user"),
        ({"endpoints": (*HTTPS, HTTPS[0] + "/")}, "twice"),
        ({"prefix": ""}, "begins and ends"),
        ({"prefix": "/"}, "begins and ends"),
        ({"prefix": "/a"}, "begins and ends"),
        ({"prefix": "/ä/"}, "begins and ends"),
        ({"prefix": "/" + "a" * 200 + "/"}, "begins and ends"),
        ({"user": "me"}, "go together"),
        ({"password_file": "x"}, "go together"),
        ({"cert_file": "x"}, "go together"),
        ({"key_file": "x"}, "go together"),
        ({"endpoints": ("http://10.0.0.1:2379",), "ca_file": "x"}, "https"),
        (
            {"endpoints": ("http://10.0.0.1:2379",), "user": "me", "password_file": "x"},
            "https only",
        ),
        ({"password": "horse"}, "Extra"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as raised:
        EtcdConfig(**({"endpoints": HTTPS} | settings))
    # pydantic's own text repeats what was given; the agent's does not.
    assert all("horse" not in each["msg"] for each in raised.value.errors())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_password_may_go_over_loopback(host: str) -> None:
    config = EtcdConfig(endpoints=(f"http://{host}:2379",), user="me", password_file="x")
    made = FakeContext("etcd", config=config)
    made.secrets.values["x"] = "horse"
    assert make_backend(made).describe()["available"] is False


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    nothing, key = tmp_path / "nothing.pem", tmp_path / "key.pem"
    key.write_text("no key")

    def make(**files: Path) -> None:
        make_backend(FakeContext("etcd", config=EtcdConfig(endpoints=HTTPS, **files)))

    with pytest.raises(ValueError, match=str(nothing)):
        make(ca_file=nothing)
    with pytest.raises(ValueError, match=str(nothing)):
        make(cert_file=key, key_file=nothing)
    key.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        make(cert_file=key, key_file=key)
    key.chmod(0o600)
    with pytest.raises(ValueError, match=str(key)):
        make(cert_file=key, key_file=key)
