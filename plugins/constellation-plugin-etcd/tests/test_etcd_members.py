"""The plugin as an agent uses it, on real etcd members: certificates, users, members that hang."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from constellation_core.consensus import Unavailable
from constellation_core.testing.consensus.conformance.fleet import renewed
from constellation_core.testing.context import FakeContext
from constellation_core.testing.waiting import until, until_so
from constellation_plugin_etcd import EtcdPlugin
from constellation_plugin_etcd.backend import EtcdBackend
from constellation_plugin_etcd.config import EtcdConfig
from constellation_plugin_etcd.gateway import STATUS, HttpGateway
from constellation_plugin_etcd.making import make_backend, tls_context
from constellation_plugin_etcd.testing.members import Members

ETCD = shutil.which("etcd")
DEADLINE = 60.0
SECRET = "correct horse"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
]


class Authority:
    """Makes certificates in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._certificate(self._name, self._key, is_ca=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for loopback, of a server and a client, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        files = (self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files[0].write_bytes(self._certificate(subject, key, is_ca=False))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        files[1].chmod(0o600)
        return files

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def started() -> Iterator[list[Members]]:
    """To be added to; ended after the test."""
    running: list[Members] = []
    yield running
    for members in running:
        members.kill_all()


def start(started: list[Members], folder: Path, *, count: int = 3, **options: Any) -> Members:
    folder.mkdir()
    members = Members(ETCD or "etcd", folder, count, **options)
    started.append(members)
    members.start_all()
    return members


@contextlib.asynccontextmanager
async def running(backend: EtcdBackend) -> AsyncIterator[EtcdBackend]:
    task = asyncio.create_task(backend.run())
    try:
        yield backend
    finally:
        await backend.close()
        task.cancel()
        await asyncio.wait([task])


def context(members: Members, **settings: Any) -> FakeContext:
    config = EtcdConfig(endpoints=tuple(members.urls.values()), **settings)
    made = FakeContext("etcd", config=config)
    made.secrets.values["etcd-password"] = SECRET
    return made


async def enable_users(gateway: HttpGateway) -> None:
    """A role for the prefix only, and a root that does all."""

    async def ask(path: str, **body: Any) -> None:
        await gateway.call(f"/v3/auth/{path}", body, timeout=10)

    await ask("user/add", name="root", password="root")
    await ask("user/grant", user="root", role="root")
    await ask("role/add", name="fleet")
    # /fleet/ to /fleet0
    permission = {"permType": "READWRITE", "key": "L2ZsZWV0Lw==", "range_end": "L2ZsZWV0MA=="}
    await ask("role/grant", name="fleet", perm=permission)
    await ask("user/add", name="agent", password=SECRET)
    await ask("user/grant", user="agent", role="fleet")
    await ask("enable")


async def test_with_certificates_and_a_user_of_few_rights(
    tmp_path: Path, started: list[Members]
) -> None:
    authority = Authority(tmp_path)
    (server, server_key), (client, client_key) = authority.issue("server"), authority.issue("agent")
    members = start(
        started,
        tmp_path / "etcd",
        count=1,
        scheme="https",
        options=[
            f"--cert-file={server}",
            f"--key-file={server_key}",
            "--client-cert-auth",
            f"--trusted-ca-file={authority.ca}",
        ],
    )
    files = {"ca_file": authority.ca, "cert_file": client, "key_file": client_key}
    url = members.urls["m1"]
    tls = tls_context(str(authority.ca), str(client), str(client_key))
    admin = HttpGateway([url], tls=tls)

    async def ready() -> bool:
        answer = (await admin.ask_each(STATUS, 2))[url]
        return isinstance(answer, dict) and "leader" in answer

    await until(ready, DEADLINE, "the member")
    await enable_users(admin)
    await admin.close()
    with_user = {"user": "agent", "password_file": "etcd-password", "prefix": "/fleet/"}
    async with running(make_backend(context(members, **files, **with_user))) as backend:
        await backend.store.put("a", b"1", timeout=DEADLINE)
        async with backend.leases.hold("dns", ttl=12) as lease:
            # A member forgets its tokens when it is restarted.
            members.kill("m1")
            members.start("m1")
            await renewed(lease)
        entry = await backend.store.get("a", timeout=DEADLINE)
        assert entry is not None
        health = await backend.look()
        assert health.available
        assert health.leader == "m1"
        told = str(backend.describe()) + repr(health)
        assert SECRET not in told
    # Beyond its rights, without a user, with a wrong one, without its certificate, and without
    # the authority's.
    wrong = context(members, **files, **with_user)
    wrong.secrets.values["etcd-password"] = "wrong horse"
    del files["cert_file"], files["key_file"]
    bare = {"ca_file": authority.ca}
    key = {"cert_file": client, "key_file": client_key}
    for refused, why in (
        (context(members, **bare, **key, **(with_user | {"prefix": "/other/"})), "permission"),
        (context(members, **bare, **key, prefix="/fleet/"), "user name is empty"),
        (wrong, "authentication failed"),
        (context(members, **bare, **with_user), "certificate|broke|handshake|alert"),
        (context(members, **key, **with_user), "certificate cannot be verified"),
    ):
        async with running(make_backend(refused)) as backend:
            with pytest.raises(Unavailable, match=why) as raised:
                await backend.store.get("a", timeout=5)
            assert "horse" not in str(raised.value)


async def test_a_member_that_hangs_is_passed_over(tmp_path: Path, started: list[Members]) -> None:
    members = start(started, tmp_path / "etcd")
    async with running(make_backend(context(members))) as backend:
        await backend.store.put("a", b"0", timeout=DEADLINE)
        async with backend.leases.hold("dns", ttl=10) as lease:
            for name in members.names:
                # One of them leads, one is the one that is asked.
                members.pause(name)
                try:
                    await backend.store.put("a", name.encode(), timeout=DEADLINE)
                    await renewed(lease)
                finally:
                    members.resume(name)
            lease.check()
        entry = await backend.store.get("a", timeout=DEADLINE)
        assert entry is not None
        assert entry.value == b"m3"


async def test_what_is_wrong_is_said(tmp_path: Path, started: list[Members]) -> None:
    members = start(started, tmp_path / "etcd", count=2)
    plugin, made = EtcdPlugin(), context(members)
    backend = plugin.consensus_backend(made)
    (check,) = plugin.verify_checks(made)
    assert isinstance(backend, EtcdBackend)
    assert backend is plugin.consensus_backend(made)
    assert not backend.describe()["available"]
    async with running(backend):
        await until_so(lambda: backend.describe()["available"], DEADLINE, "etcd")
        result = await check.run()
        assert result.status == "warn"
        assert "two members" in result.detail
        described = backend.describe()
        assert described["leader"] in members.names
        assert [each["member"] for each in described["endpoints"]] == members.names
        assert sum(each["leads"] for each in described["endpoints"]) == 1
        members.kill("m2")

        async def failed() -> bool:
            return (await check.run()).status == "fail"

        await until(failed, DEADLINE, "a failed check")
        problems = backend.describe()["problems"]
        assert any(members.urls["m2"] in problem for problem in problems)
        assert any("does not answer" in problem for problem in problems)
