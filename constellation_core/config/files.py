"""Writes files so that a crash leaves the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def create_file(path: Path, data: bytes, mode: int) -> None:
    """Create ``path`` with exactly this mode, whatever the umask; never replace anything.

    Raises:
        FileExistsError: when there is something already, even a dangling link.
        OSError: when it cannot be written; nothing is left behind.
    """
    with _written_beside(path, data) as temporary:
        temporary.chmod(mode)
        try:
            # Unlike a rename, a link fails where something stands already.
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _create_directly(path, data, mode)
    _sync_folder(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Replace the content of a file; its mode and owner stay. Links are followed.

    Raises:
        OSError: when it cannot be written, or its owner cannot be kept; it is as it was then.
    """
    target = path.resolve(strict=True)
    status = target.stat()
    with _written_beside(target, data) as temporary:
        owner = temporary.stat()
        if (owner.st_uid, owner.st_gid) != (status.st_uid, status.st_gid):
            os.chown(temporary, status.st_uid, status.st_gid)
        # After the change of owner, which takes special bits away.
        temporary.chmod(stat.S_IMODE(status.st_mode))
        temporary.replace(target)
    _sync_folder(target.parent)


@contextlib.contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A new file (mode 0600) with ``data`` on disk, in the folder of ``path``; gone afterwards."""
    # mkstemp opens with O_EXCL and mode 0600, so nobody else can have it open.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _create_directly(path: Path, data: bytes, mode: int) -> None:
    """For file systems without hard links."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
