"""The built-in engine, for :class:`~.lifecycle.VoterLifecycle`.

It is imported only where there are a voter's files, or are to be: most agents do not vote.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from constellation_core.consensus.interface import Engine, StateMachine, Unavailable, Voter
from constellation_core.consensus.state import ReplicatedState
from constellation_core.consensus.voters.network import UnreachableError

if TYPE_CHECKING:
    from constellation_core.consensus.engine import Timing


class BuiltinEngines:
    """Makes engines on one address.

    Args:
        bind: IP literal and port to listen on.
        cluster_keys: the current cluster key of 32 bytes, then those still accepted.
        timing: timeouts; the engine's own by default.
    """

    def __init__(
        self, bind: tuple[str, int], cluster_keys: Sequence[bytes], timing: Timing | None = None
    ) -> None:
        self._bind = bind
        self._keys = tuple(cluster_keys)
        self._timing = timing

    def identity(self, directory: Path) -> tuple[str, str] | None:
        """See :class:`~.network.Engines`."""
        path = directory / "identity"
        if not path.exists():
            return None
        from constellation_core.consensus.engine.identity import read_identity

        identity = read_identity(path)
        return None if identity is None else (str(identity.cluster), identity.id)

    def create(
        self, directory: Path, cluster: str, voter: str, founders: tuple[Voter, ...] | None
    ) -> None:
        """See :class:`~.network.Engines`."""
        from constellation_core.consensus.engine import Identity, create

        empty = ReplicatedState().snapshot()
        create(directory, Identity(UUID(cluster), UUID(voter)), founders, empty)

    def open(self, directory: Path, machine: StateMachine) -> Engine:
        """See :class:`~.network.Engines`."""
        from constellation_core.consensus.engine import EngineSettings, RaftEngine, Timing

        timing = self._timing or Timing()
        return RaftEngine(EngineSettings(directory, self._bind, self._keys, timing), machine)

    async def check_address(self) -> None:
        """See :class:`~.network.Engines`."""
        host, port = self._bind
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
                listener.listen()
            except OSError as error:
                raise Unavailable(f"cannot listen on {host} port {port}: {error}") from error

    async def reach(self, cluster: str, voter: Voter, *, timeout: float) -> None:
        """See :class:`~.network.Engines`. Asks for a proof, and gives none itself."""
        from constellation_core.consensus.engine.handshake import (
            ANSWER_LENGTH,
            Dialler,
            HandshakeError,
        )
        from constellation_core.consensus.engine.keys import group_keys

        host, _, port = voter.address.rpartition(":")
        failure: Exception | None = None
        for key in group_keys(self._keys, UUID(cluster)):
            dialler = Dialler(key, UUID(cluster), uuid4(), UUID(voter.id))
            try:
                async with asyncio.timeout(timeout):
                    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                    try:
                        writer.write(dialler.hello)
                        dialler.answered(await reader.readexactly(ANSWER_LENGTH))
                    finally:
                        writer.close()
            except (OSError, ValueError, EOFError, TimeoutError, HandshakeError) as error:
                failure = error
            else:
                return
        reason = f"its engine at {voter.address} is not reached: {failure or 'no answer'}"
        raise UnreachableError(reason)
