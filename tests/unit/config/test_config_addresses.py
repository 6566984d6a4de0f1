"""HOST:PORT in settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from constellation_core.config.addresses import (
    Address,
    AdvertisedAddress,
    BindAddress,
    PeerAddress,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7946", "127.0.0.1", 7946),
        ("[::1]:0", "::1", 0),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65_535),
        ("node-b:1", "node-b", 1),
        ("my_host.example.com.:80", "my_host.example.com.", 80),
    ],
)
def test_good_addresses_come_back_as_written(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the port is missing"),
        ("node", "the port is missing"),
        (":80", "the host is missing (all addresses: 0.0.0.0:80)"),
        ("::1", "in brackets"),
        ("::1:80", "in brackets: [::1]:PORT"),
        ("[::1]", "the port is missing"),
        ("[::1]80", "the port is missing"),
        ("[::1", "must be an IPv6 address"),
        ("[1.2.3.4]:1", "must be an IPv6 address"),
        ("a:65536", "from 0 to 65535"),
        ("a:-1", "from 0 to 65535"),
        ("a:", "from 0 to 65535"),
        ("a:٣", "from 0 to 65535"),
        ("a: 1", "from 0 to 65535"),
        ("256.1.1.1:1", "neither a host name nor an IP address"),
        ("1.2.3:1", "neither a host name nor an IP address"),
        ("-a:1", "neither a host name nor an IP address"),
        ("a..b:1", "neither a host name nor an IP address"),
        ("http://a:1", "in brackets"),
        (f"{'a' * 64}:1", "neither a host name nor an IP address"),
    ],
)
def test_bad_addresses_are_told_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT") as caught:
        parse_address(text)
    assert says in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_ip_address_survives(ip: object, port: int) -> None:
    address = Address(str(ip), port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (BindAddress, "node-b:1", "an IP address of this host"),
        (AdvertisedAddress, "0.0.0.0:1", "by which the other nodes reach this one"),
        (AdvertisedAddress, "[::]:1", "by which the other nodes reach this one"),
        (PeerAddress, "node-b:0", "0 is none"),
        (PeerAddress, "0.0.0.0:1", "address of another node"),
        (PeerAddress, 5, "expected a string"),
    ],
)
def test_what_a_setting_does_not_take(kind: type[Address], text: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(kind).validate_python(text)


def test_localhost_is_the_ipv4_loopback() -> None:
    address = TypeAdapter(BindAddress).validate_python("localhost:0")
    assert address == Address("127.0.0.1", 0)
    assert address.is_loopback
    assert not address.is_unspecified
    assert not Address("node-b", 1).is_loopback
