"""Secret files and the cluster key: who may read them, and what they never tell."""

from __future__ import annotations

import base64
import os
import pickle
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.config import ClusterKey, FileSecrets, SecretError, read_secret_file
from constellation_core.config.secrets import LARGEST_SECRET


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "my secret"
    path.touch(mode=0o600)
    path.write_text("hunter22\n")
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_the_owner_may_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_secret_file(secret) == b"hunter22\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666])
def test_anybody_else_may_not_and_the_advice_mends_it(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(SecretError, match=f"mode {mode:04o}") as caught:
        read_secret_file(secret)
    assert "hunter22" not in str(caught.value)
    command = str(caught.value).partition("mend it with: ")[2]
    subprocess.run(shlex.split(command), check=True)
    assert read_secret_file(secret)


def test_a_file_of_another_user_is_refused(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = secret.stat().st_uid
    if owner == 0:
        os.chown(secret, 12_345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(SecretError, match=r"belongs to another user.*chown"):
        read_secret_file(secret)


def test_what_is_no_plain_file(tmp_path: Path, secret: Path) -> None:
    with pytest.raises(SecretError, match="there is no such file"):
        read_secret_file(tmp_path / "none")
    with pytest.raises(SecretError, match="is not a plain file"):
        read_secret_file(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(SecretError, match="is not a plain file"):
        read_secret_file(pipe)
    with pytest.raises(SecretError, match="cannot be opened"):
        read_secret_file(secret / "below")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SecretError, match="cannot be opened"):
        read_secret_file(tmp_path / "loop")


def test_a_link_is_judged_by_what_it_leads_to(tmp_path: Path, secret: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert read_secret_file(link)
    secret.chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        read_secret_file(link)


def test_empty_and_huge_files(secret: Path) -> None:
    secret.write_text(" \n")
    with pytest.raises(SecretError, match="is empty"):
        read_secret_file(secret)
    secret.write_bytes(b"x" * LARGEST_SECRET)
    assert len(read_secret_file(secret)) == LARGEST_SECRET
    secret.write_bytes(b"x" * (LARGEST_SECRET + 1))
    with pytest.raises(SecretError, match="larger than 64 KiB"):
        read_secret_file(secret)


def test_secrets_by_name(tmp_path: Path, secret: Path) -> None:
    secrets = FileSecrets(tmp_path)
    assert secrets.read("my secret") == "hunter22"
    secret.write_bytes(b"a\r\n\r\n")
    assert secrets.read("my secret") == "a\r\n"
    (tmp_path / "sub").mkdir()
    secret.rename(tmp_path / "sub" / "inner")
    assert secrets.read("sub/inner")
    (tmp_path / "sub" / "inner").write_bytes(b"\xff")
    with pytest.raises(SecretError, match="is not UTF-8"):
        secrets.read("sub/inner")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/../../x", "/etc/shadow", "a//b", "a/", "a\0b", "a/./b"]
)
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretError, match="is not the name of a secret"):
        FileSecrets(tmp_path / "secrets").read(name)


@given(st.text(max_size=20))
def test_no_name_leads_out(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "no-secrets"
    with pytest.raises(SecretError):
        FileSecrets(folder).read(name)


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    key = ClusterKey.generate()
    path = tmp_path / "cluster.key"
    path.touch(mode=0o600)
    path.write_bytes(key.to_file_content())
    assert len(base64.b64decode(path.read_bytes())) == 32
    assert ClusterKey.read(path) == key
    assert ClusterKey.generate() != key
    assert hash(ClusterKey.read(path)) == hash(key)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hunter22", "expected 32 bytes as base64, found 6"),
        (base64.b64encode(b"x" * 31), "found 31"),
        (b"not base64!", "expected 32 bytes as base64 on one line"),
        (base64.b64encode(b"x" * 32)[:22] + b"\n" + base64.b64encode(b"x" * 32)[22:], "one line"),
        (b"\xff" * 32, "as base64"),
    ],
    ids=["6 bytes", "31 bytes", "other signs", "two lines", "no text"],
)
def test_what_is_no_key(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "cluster.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(SecretError, match=says) as caught:
        ClusterKey.read(path)
    assert content.decode(errors="replace").strip() not in str(caught.value)


def test_a_missing_key_says_where_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "my key"
    with pytest.raises(SecretError, match="there is no cluster key") as caught:
        ClusterKey.read(path)
    command = str(caught.value).rpartition("cluster: ")[2]
    if subprocess.run(["sh", "-c", "command -v openssl"], capture_output=True).returncode:
        pytest.skip("openssl is not installed, so its command cannot be tried")
    subprocess.run(["sh", "-c", command], check=True)
    assert ClusterKey.read(path)


def test_a_key_shows_only_its_fingerprint() -> None:
    raw = bytes(range(32))
    key = ClusterKey(raw)
    shown = f"{key} {key!r}"
    assert key.fingerprint() in shown
    assert raw.hex() not in shown
    assert base64.b64encode(raw).decode() not in shown
    assert len(key.fingerprint()) == 12
    with pytest.raises(TypeError, match="not to be pickled"):
        pickle.dumps(key)
    with pytest.raises(ValueError, match="32 bytes, not 5"):
        ClusterKey(b"short")


def test_derived_keys_are_hkdf_sha256_and_differ_by_label() -> None:
    import hashlib
    import hmac

    key = ClusterKey(bytes(range(32)))
    # RFC 5869 by hand: extract with a salt of zeros, then the first block of expand.
    extracted = hmac.digest(bytes(32), bytes(range(32)), hashlib.sha256)
    block = hmac.digest(extracted, b"constellation gossip v1\x01", hashlib.sha256)
    assert key.derive("constellation gossip v1") == block
    assert key.derive("constellation api v1") != block
