"""Between PySyncObj and the network: the library's transport, reduced to what is allowed.

The library registers handlers for utility messages and read-only nodes; they are kept nowhere,
so nothing can call them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pysyncobj.transport import Transport

from constellation_core.consensus.engine.library import VoterNode
from constellation_core.consensus.engine.messages import Message


class Network(Protocol):
    """What carries messages between voters; called on the engine's thread."""

    def send(self, voter: str, message: Message) -> bool:
        """Queue a message; false when the voter is not connected."""
        ...

    def know(self, voter: str, address: str) -> None:
        """Keep a connection to this voter."""
        ...

    def forget(self, voter: str) -> None:
        """Seek no connection to this voter any more."""
        ...

    def backlog(self, voter: str) -> int:
        """Bytes that wait to be sent to a voter."""
        ...


class Relay(Transport):  # type: ignore[misc]
    """What the library sends goes through ``outgoing`` first.

    Args:
        network: what carries messages.
        outgoing: gives the message that is sent instead.
    """

    def __init__(self, network: Network, outgoing: Callable[[Message], Message]) -> None:
        super().__init__(None, None, ())
        self._network = network
        self._outgoing = outgoing

    def setOnUtilityMessageCallback(self, message: str, callback: object) -> None:
        """There are no utility messages."""

    def setOnReadonlyNodeConnectedCallback(self, callback: object) -> None:
        """There are no read-only nodes."""

    def setOnReadonlyNodeDisconnectedCallback(self, callback: object) -> None:
        """There are no read-only nodes."""

    def addNode(self, node: VoterNode) -> None:
        """The voter belongs to the configuration now."""
        self._network.know(node.voter, node.address)

    def dropNode(self, node: VoterNode) -> None:
        """The voter belongs to the configuration no more."""
        self._network.forget(node.voter)

    def send(self, node: VoterNode, message: Message) -> bool:
        """Send a message of the library's, as ``outgoing`` makes it."""
        return self._network.send(node.voter, self._outgoing(message))

    def connected(self, voter: str) -> None:
        """Tell the library that a voter can be reached."""
        self._onNodeConnected(VoterNode(voter))

    def disconnected(self, voter: str) -> None:
        """Tell the library that a voter cannot be reached."""
        self._onNodeDisconnected(VoterNode(voter))
