"""What the agent keeps on disk: a lock, the epoch of its rows, whom it has met, and the like."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from constellation_core.gossip import Address

_GREATEST_EPOCH = 2**32 - 2**20
"""It is an incarnation too, which has 32 bits; what is greater was not written by an agent."""


class DataDirError(Exception):
    """The data directory cannot be used; the text says why and what to do."""


class DataDir:
    """The folder ``[agent] data_dir`` of one agent.

    Args:
        path: the folder; made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep every other agent out of it.

        Raises:
            DataDirError: when it cannot be made, or another agent uses it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o750)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirError(
                f"cannot use {self.path}: {error.strerror}; set [agent] data_dir to a folder that "
                "this user may write to"
            ) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataDirError(
                    f"another agent uses {self.path}; stop it, or set another [agent] data_dir"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def next_epoch(self, now: float) -> int:
        """An epoch above all earlier ones of this folder: the wall clock, unless it went back.

        Raises:
            DataDirError: when it cannot be written down.
        """
        before = self._read_number("epoch")
        if before > _GREATEST_EPOCH:
            before = 0
        epoch = max(int(now), before + 1)
        try:
            self.save_epoch(epoch)
        except OSError as error:
            raise DataDirError(
                f"cannot write to {self.path}: {error.strerror}; make room there, or set "
                "[agent] data_dir to a folder that this user may write to"
            ) from None
        return epoch

    def save_epoch(self, epoch: int) -> None:
        """Remember the epoch in use."""
        self._write("epoch", f"{epoch}\n")

    def consensus_plugin(self) -> str:
        """The plugin that kept consensus in an earlier life; ``""`` when there was none."""
        try:
            return (self.path / "consensus-plugin").read_text().strip()
        except (OSError, ValueError):
            return ""

    def save_consensus_plugin(self, name: str) -> None:
        """Remember which plugin keeps consensus; ``""`` for none."""
        self._write("consensus-plugin", f"{name}\n")

    def peers(self) -> set[Address]:
        """Addresses of nodes from an earlier life; empty when there is nothing usable."""
        try:
            listed = json.loads((self.path / "peers.json").read_text())
            found = {(str(ipaddress.ip_address(host)), int(port)) for host, port in listed}
        except (OSError, ValueError, TypeError, ArithmeticError, RecursionError):
            return set()
        return {(host, port) for host, port in found if 0 < port < 65_536}

    def save_peers(self, peers: Iterable[Address]) -> None:
        """Remember the addresses of all nodes that are known."""
        self._write("peers.json", json.dumps(sorted(peers)) + "\n")

    def _read_number(self, name: str) -> int:
        try:
            return int((self.path / name).read_text())
        except (OSError, ValueError):
            return 0

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f"{name}.new"
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)
