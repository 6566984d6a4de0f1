"""Secret files, and the cluster key."""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Self

LARGEST_SECRET = 64 << 10
"""Bytes; more is no secret but a wrong file."""

KEY_BYTES = 32

OWNER_ONLY = 0o600

_COPY = "copy it once more from another node (mode 0600)"


class SecretError(Exception):
    """A secret cannot be used; the text says why and how to mend it, and never the secret."""


def read_secret_file(path: Path) -> bytes:
    """Read a secret that only its owner can read.

    Links are followed, since secret stores use them; what is checked is the file that was
    opened, so that nobody can exchange it between the check and the reading.

    Raises:
        SecretError: when it is missing, empty, too large, no plain file, belongs to somebody
            else than this user or root, or when group or others have any right to it.
    """
    shown = shlex.quote(str(path))
    try:
        # Without O_NONBLOCK a named pipe would hang here until somebody wrote to it.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise SecretError(f"{path}: there is no such file") from None
    except PermissionError:
        raise SecretError(
            f"{path}: may not be read by this user (uid {os.geteuid()}); see: ls -l {shown}"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SecretError(f"{path}: cannot be opened: {reason}") from None
    try:
        _require_private(path, os.fstat(handle))
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(LARGEST_SECRET + 1)
    except OSError as error:
        raise SecretError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(handle)
    if len(data) > LARGEST_SECRET:
        raise SecretError(
            f"{path}: is larger than {LARGEST_SECRET >> 10} KiB; is it the right file?"
        )
    if not data.strip():
        raise SecretError(f"{path}: is empty; write the secret into it")
    return data


def _require_private(path: Path, status: os.stat_result) -> None:
    shown = shlex.quote(str(path))
    if not stat.S_ISREG(status.st_mode):
        raise SecretError(f"{path}: is not a plain file")
    if status.st_uid not in (os.geteuid(), 0):
        raise SecretError(
            f"{path}: belongs to another user (uid {status.st_uid}), who could change it; "
            f"mend it with: chown {os.geteuid()} {shown}"
        )
    if status.st_mode & 0o077:
        raise SecretError(
            f"{path}: others than its owner have rights to it "
            f"(mode {stat.S_IMODE(status.st_mode):04o}); mend it with: chmod 600 {shown}"
        )


@dataclass(frozen=True, slots=True)
class FileSecrets:
    """Secrets by name: files in a folder. Fulfils ``plugins.context.Secrets``.

    Attributes:
        folder: ``[agent] secrets_path``.
    """

    folder: Path

    def read(self, name: str) -> str:
        """The text of the secret called ``name``, without the line's end.

        ``name`` is a file's name, or a path below the folder (``mongo/password``).

        Raises:
            SecretError: when the name leads elsewhere, the file cannot be used (see
                :func:`read_secret_file`), or is not UTF-8.
        """
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise SecretError(
                f"{name!r} is not the name of a secret: it must name a file below {self.folder}"
            )
        path = self.folder.joinpath(*parts)
        try:
            text = read_secret_file(path).decode()
        except UnicodeDecodeError:
            raise SecretError(f"{path}: is not UTF-8 text") from None
        return text.removesuffix("\n").removesuffix("\r")


class ClusterKey:
    """The 32 bytes that all nodes of a cluster share. Shows itself only by its fingerprint."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take the bytes.

        Raises:
            ValueError: when they are not 32.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a cluster key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = bytes(key)

    @classmethod
    def generate(cls) -> Self:
        """A new one, from the system's source of randomness."""
        return cls(token_bytes(KEY_BYTES))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            SecretError: when it cannot be used (see :func:`read_secret_file`) or is no key.
        """
        if not os.path.lexists(path):
            raise SecretError(
                f"{path}: there is no cluster key; copy it from another node (mode 0600) or, for "
                f"a new cluster: (umask 077; openssl rand -base64 32 > {shlex.quote(str(path))})"
            )
        expected = f"{path}: is not a cluster key: expected {KEY_BYTES} bytes as base64"
        data = read_secret_file(path).strip()
        try:
            key = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise SecretError(f"{expected} on one line; {_COPY}") from None
        if len(key) != KEY_BYTES:
            raise SecretError(f"{expected}, found {len(key)}; {_COPY}")
        return cls(key)

    def to_file_content(self) -> bytes:
        """What a key file holds: base64 and a line's end."""
        return base64.b64encode(self._key) + b"\n"

    def derive(self, label: str) -> bytes:
        """A key of 32 bytes for one purpose, such as ``constellation gossip v1``.

        HKDF-SHA256 (RFC 5869) without salt, the label as ``info``: from one derived key neither
        the cluster key nor another derived key can be found.
        """
        # Imported here: most commands read settings and never need a key.
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), KEY_BYTES, salt=None, info=label.encode()).derive(self._key)

    def fingerprint(self) -> str:
        """12 hex digits that tell one key from another; safe to log and to compare by eye."""
        return self.derive("constellation fingerprint v1")[:6].hex()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClusterKey):
            return NotImplemented
        from hmac import compare_digest

        return compare_digest(self._key, other._key)

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        return f"<ClusterKey {self.fingerprint()}>"

    def __reduce__(self) -> str:
        raise TypeError("a cluster key is not to be pickled")
