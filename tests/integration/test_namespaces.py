"""Hosts of their own on this machine, and the ways in which the network between them fails."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from constellation_core.testing.namespaces import (
    NamespaceError,
    NamespaceNetwork,
    NetworkNamespace,
    why_no_namespaces,
)

pytestmark = pytest.mark.integration

PORT = 9000
ECHO = f"""
import selectors, socket, sys
selector = selectors.DefaultSelector()
tcp = socket.create_server((sys.argv[1], {PORT}))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], {PORT}))
selector.register(tcp, selectors.EVENT_READ)
selector.register(udp, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj is udp:
            udp.sendto(*udp.recvfrom(100))
        else:
            tcp.accept()[0].close()
"""
ASK = f"""
import socket, sys
for kind, number in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)):
    with socket.socket(socket.AF_INET, number) as s:
        s.settimeout(0.5)
        try:
            s.connect((sys.argv[1], {PORT}))
            if kind == "udp":
                s.send(b"hello")
                s.recv(100)
            print(kind)
        except OSError:
            pass
"""


@pytest.fixture
def network() -> Iterator[NamespaceNetwork]:
    missing = why_no_namespaces()
    if missing:
        pytest.skip(missing)
    with NamespaceNetwork(["a", "b", "c"]) as made:
        yield made


@contextmanager
def echo(network: NamespaceNetwork, name: str) -> Iterator[None]:
    argv = network.command(name, [sys.executable, "-IS", "-c", ECHO, network.address(name)])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def reached(network: NamespaceNetwork, source: str, target: str) -> set[str]:
    argv = network.command(source, [sys.executable, "-IS", "-c", ASK, network.address(target)])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    return set(done.stdout.split())


def test_hosts_reach_each_other_and_lose_what_is_dropped(network: NamespaceNetwork) -> None:
    both = {"udp", "tcp"}
    with echo(network, "b"), echo(network, "c"):
        assert reached(network, "a", "b") == reached(network, "c", "b") == both
        network.drop("a", "b", protocol="udp")
        assert reached(network, "a", "b") == {"tcp"}
        assert reached(network, "c", "b") == both
        network.heal()
        # The way back is enough to lose all.
        network.drop("b", "a")
        assert reached(network, "a", "b") == set()
        network.heal()
        network.split(["a", "b"], ["c"])
        assert reached(network, "a", "b") == both
        assert reached(network, "a", "c") == reached(network, "b", "c") == set()
        network.heal()
        assert reached(network, "a", "c") == both


def test_a_host_has_a_loopback_of_its_own_whose_bytes_are_counted_and_nothing_is_left() -> None:
    missing = why_no_namespaces()
    if missing:
        pytest.skip(missing)
    with NetworkNamespace() as space, socket.create_server(("127.0.0.1", 0)) as outside:
        with pytest.raises(NamespaceError, match="refused"):
            space.run(sys.executable, "-IS", "-c", _CONNECT, str(outside.getsockname()[1]))
        before = space.bytes_sent()
        space.run(sys.executable, "-IS", "-c", _SEND)
        assert space.bytes_sent() - before == 1000 + 20 + 8
        file = Path("/run/netns") / space.name
        assert file.exists()
    assert not file.exists()
    with pytest.raises(NamespaceError, match=space.name):
        space.run("true")


_CONNECT = """
import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
"""
_SEND = """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("127.0.0.1", 0))
one.sendto(bytes(1000), one.getsockname())
"""
