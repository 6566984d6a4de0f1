"""What a plugin gets from the core: its context."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.node import Node
from constellation_core.model.published import PublishedService
from constellation_core.model.service import Service
from constellation_core.runtime import RuntimeStatus

if TYPE_CHECKING:
    from constellation_core.consensus.backend import KeyValues, LeaseHolder
    from constellation_core.consensus.leases import Lease


class Clock(Protocol):
    """Time, handed in so that tests can turn it."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; only differences mean something."""

    def time(self) -> float:
        """Seconds since 1970."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long on this clock."""


class CatalogView(Protocol):
    """The fleet's instances and definitions, as this node knows them; reading is cheap."""

    @property
    def warm(self) -> bool:
        """Whether this node has heard the fleet's state since it started.

        False at first: what is missing then may only not have been heard of yet, and must not
        be taken for gone. True once a peer has sent its whole catalog, once this node has
        been found to be alone by its settings, or when the time limit for a peer has passed.
        """

    @property
    def revision(self) -> int:
        """Grows with every change of anything below; equal revisions mean nothing changed."""

    def instances(self, service: str | None = None) -> Sequence[Instance]:
        """All known instances, or those of one service, ordered by id."""

    def instance(self, instance_id: str) -> Instance | None:
        """The instance with this id."""

    def services(self) -> Mapping[str, PublishedService]:
        """The definition in force of each service, by name.

        Where nodes publish different ones, the one that most living nodes publish is in force,
        and among equals the one with the greater version, so that all nodes agree.
        """

    def changed_services(self, since: int) -> set[str] | None:
        """Names of the services whose definition or instances changed after that revision.

        ``None`` when that is too long ago to tell: take all of them as changed.
        """

    def nodes(self) -> Sequence[Node]:
        """All nodes that the membership knows, with the local one, ordered by name."""

    async def wait_change(self, since: int) -> int:
        """Wait until :attr:`revision` is greater than ``since``; return it."""


class LocalInstances(Protocol):
    """The instances that this agent runs itself."""

    def ids(self) -> Sequence[str]:
        """Ids, in order."""

    def service(self, instance_id: str) -> Service:
        """The full definition. Raises ``KeyError`` for an unknown id."""

    def instance(self, instance_id: str) -> Instance:
        """As it is published. Raises ``KeyError`` for an unknown id."""

    def status(self, instance_id: str) -> RuntimeStatus:
        """As its driver sees it. Raises ``KeyError`` for an unknown id."""

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call ``listener(instance_id)`` after every change of an instance's status, and when it
        is added or removed; returns what ends the subscription."""

    def report_health(self, instance_id: str, health: Health | None, reason: str = "") -> None:
        """State a checker's verdict; the published health is never better than this.

        ``None`` takes the verdict back. Unknown ids are ignored: the instance may just be gone.
        """

    async def restart(self, instance_id: str, reason: str) -> None:
        """Restart it now. Raises ``KeyError`` for an unknown id."""

    async def execute(
        self, instance_id: str, command: Sequence[str], timeout: float
    ) -> tuple[int, str]:
        """As :meth:`constellation_core.runtime.RuntimeDriver.execute`."""


class Secrets(Protocol):
    """Secrets by name: files under ``[agent] secrets_path``."""

    def read(self, name: str) -> str:
        """The content, without the line's end.

        Raises:
            SecretError: when it is missing, or others may read it (with the ``chmod``).
        """


class PluginContext(Protocol):
    """One plugin's access to the agent.

    Attributes:
        name: the plugin's name.
        config: its validated ``[plugins.NAME]`` table: an instance of its config model, or
            ``None`` where it has none.
        log: its logger, ``constellation.plugins.NAME``.
        clock: time.
        node: the local node, as it was when last asked.
        domain: ``[agent] domain``, or ``""``.
        data_dir: a folder of its own, made when first asked for.
        catalog: what is where, in the whole fleet.
        local: what runs here.
        secrets: secrets by name.
        store: small keys and values, the same on every node. All plugins share it: let keys begin
            with the plugin's name.
        leases: who holds which lease, and :meth:`lease` in full. Names are shared by all plugins.
    """

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Any: ...
    @property
    def log(self) -> logging.Logger: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def node(self) -> Node: ...
    @property
    def domain(self) -> str: ...
    @property
    def data_dir(self) -> Path: ...
    @property
    def catalog(self) -> CatalogView: ...
    @property
    def local(self) -> LocalInstances: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def store(self) -> KeyValues: ...
    @property
    def leases(self) -> LeaseHolder: ...

    def lease(
        self,
        name: str,
        *,
        ttl: float | None = None,
        wait_out: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """A block that runs while this agent, and in it this block alone, holds a lease.

        ::

            async with context.lease("dns-writer") as lease:
                while True:
                    plan = await compare(wanted, actual)
                    lease.check()
                    await provider.write(plan, fence=lease.epoch)

        Entering waits until the lease is free, so it belongs into a task of :meth:`spawn` rather
        than into ``start``. When the lease is lost, the body is cancelled at its current ``await``
        and the block raises :class:`~constellation_core.LeaseLost`. When the agent stops, the
        body is cancelled and the lease released.

        Args:
            name: 1 to 256 bytes; the same lease on every node.
            ttl: seconds after which another may have it when this machine dies; 45 by default.
            wait_out: for what cannot refuse an old epoch: unless the holder before released the
                lease, the body begins a ttl later.
            on_lost: called once when the lease is lost, possibly on another thread, also while
                the event loop is held up: for what the block runs outside of the event loop. It
                must not block: it may be called in the event loop as well.

        Raises:
            ValueError: for a name or a ttl that cannot be.
            Unavailable: when it is entered: this agent has no consensus, or stops.
        """

    def spawn(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Run ``function()`` as a supervised task until the agent stops.

        When it raises, it is logged and started again after 1, 2, 4 ... up to 60 seconds; when
        it returns, it is done. Its state is in ``constellation status``. A name in use is a
        ``ValueError``.
        """

    def call_hook(self, hook: str, /, **arguments: Any) -> Mapping[str, Any]:
        """Call a hook that this plugin has defined on all plugins that implement it.

        Returns the answers by plugin name; a plugin that raises is left out and counted. An
        async implementation's answer is its coroutine, for the caller to await.
        """
