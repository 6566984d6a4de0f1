"""Every hook of the framework: the contract with plugin authors.

A plugin is a module or a class that carries functions marked with :data:`hookimpl`, named
like the functions below. It takes the arguments it needs, by name, and leaves out the rest::

    from constellation_core import hookimpl

    @hookimpl
    async def node_failed(node):
        print(f"{node.name} is gone")

Where a hook takes a ``context``, that is the plugin's own
:class:`~constellation_core.plugins.context.PluginContext`: its settings, a logger, the
catalog, the local instances, secrets by name, leases and the store, and supervised background
tasks.

What holds for all hooks
    * All but ``register_commands`` run on the agent's event loop, so none may block it: an
      ``async def`` where there is something to wait for, a thread (``asyncio.to_thread``) where
      a library blocks.
    * A hook that raises never harms another plugin or the agent, whatever it raises:
      ``SystemExit`` and ``CancelledError`` count like any other. What happens to the plugin
      itself is said at each kind.
    * A hook that holds up the event loop for more than 3 seconds is interrupted by
      :class:`~constellation_core.plugins.stalls.StalledError`; so are supervised tasks and the
      handlers of routes. An event hook that does so makes its plugin ``failed`` at once.
    * A coroutine that takes no notice of its cancellation is left behind.
    * Hooks are called on one plugin after the other, in the order of ``[plugins] enabled``.

The four kinds
    *contribute*
        Called once, when the agent or a command starts, on the main task. Not ``async``, and
        interrupted after 30 seconds: what takes time belongs into ``start``. They return what
        the plugin adds, or ``None`` for nothing. One that raises, is ``async``, or returns what
        it must not makes the plugin ``failed``: nothing of it is used, and ``constellation
        plugins list`` says why.
    *lifecycle*
        ``start`` and ``stop``, once each, awaited in a task of its own with a time limit; the
        starts of all plugins at the same time, the stops one after the other. ``async`` or not;
        what they return is ignored. What a raise means is said at each.
    *events*
        Something happened. Delivered from a queue of the plugin's own, on a task of its own, one
        at a time and in order, so a slow plugin delays only itself. When more than 256 wait, a
        newer event about the same subject takes the place of the older one (``previous`` stays
        the oldest state that the plugin has not heard of), so that memory stays bounded and the
        last word always arrives. ``async`` or not; what they return is ignored. One that raises
        is logged and counted; after 10 in a row the plugin is taken out as ``failed``: its tasks
        are cancelled, it hears of nothing more, and its ``stop`` is not called. One that takes
        longer than 30 seconds is cancelled and counts as raised.
    *decide*
        A question to all plugins, asked on the task that needs the answer, so it is not
        ``async`` and answers from what is known already. The first answer that is not ``None``
        wins. One that raises is passed over, logged, and counted like an event's error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from constellation_core.api.routing import ApiRoute
    from constellation_core.consensus.backend import ConsensusBackend
    from constellation_core.consensus.leases import LeaseView
    from constellation_core.model.instance import Instance
    from constellation_core.model.node import Node
    from constellation_core.model.published import PublishedService
    from constellation_core.model.service import Service
    from constellation_core.peers import PeerSource
    from constellation_core.plugins.context import PluginContext
    from constellation_core.runtime import RuntimeDriver
    from constellation_core.verify import VerifyCheck

PROJECT = "constellation"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of the same name."""


# --- contribute -----------------------------------------------------------------------------


@hookspec
def config_model() -> type[BaseModel] | None:
    """Return the pydantic model of the table ``[plugins.NAME]``.

    Called before every hook of the plugin but ``register_hookspecs`` and ``register_commands``,
    and also by ``constellation config check`` and ``config show``. The model should forbid
    unknown fields (``extra="forbid"``) and be frozen.
    The validated table is ``context.config``. A field declared with
    ``Field(json_schema_extra={"env": "NAME"})`` can also come from ``$NAME``; every field can
    come from ``$CONSTELLATION_PLUGINS_<PLUGIN>_<FIELD>``. A field of type ``SecretStr`` is
    never printed.

    Without this hook the plugin takes no settings, and a table for it is an error.
    """


@hookspec
def register_commands(cli: typer.Typer) -> None:
    """Add commands to ``constellation``.

    Called when the ``constellation`` command starts, in that process, not in the agent: talk
    to the agent with :class:`constellation_core.cli.client.AgentClient`. ``cli`` is the
    plugin's own empty Typer app, merged into the command line afterwards; a command whose
    name is taken already is left out with a warning, and the first comer keeps it.

    Keep the module that has this hook cheap to import: every ``constellation --help`` pays.
    """


@hookspec
def register_hookspecs() -> Sequence[Any]:
    """Return modules or classes with hookspecs of the plugin's own.

    So a plugin is extended by others: the DNS controller defines what a DNS provider
    implements. Called after all enabled plugins are imported and before any hook below; the
    plugin that offers the specs may stand anywhere in ``enabled``. It calls them through
    ``context.call_hook(NAME, ...)``.
    """


@hookspec
def api_routes(context: PluginContext) -> Iterable[ApiRoute]:
    """Return HTTP routes for the agent's API.

    A route is ``read`` (served on TCP and on the unix socket) or ``control`` (the unix socket,
    and TCP only with a token). A path that is taken already makes the plugin ``failed``. A
    handler that raises answers 500 with the plugin's name and harms no other request.
    """


@hookspec
def verify_checks(context: PluginContext) -> Iterable[VerifyCheck]:
    """Return what ``constellation verify`` should look at.

    Each check is an async function without arguments, run in the agent with a time limit of
    10 seconds, all at the same time; one that raises or is too slow is a failed check.
    """


@hookspec
def runtime_driver(context: PluginContext) -> RuntimeDriver | None:
    """Return what can start and stop instances: processes, containers, units.

    Drivers are asked in the order of ``enabled`` whether they accept a service. What a method of
    a driver raises costs the instance that it was called for, and no other. A name that another
    driver has makes the plugin ``failed``.
    """


@hookspec
def peer_sources(context: PluginContext) -> Iterable[PeerSource]:
    """Return where other agents may be found, beside ``[gossip] join``.

    Each source is asked at the start, and again while the agent is alone; an error or a slow
    answer (10 seconds) of one source leaves the others' answers in use.
    """


@hookspec
def consensus_backend(context: PluginContext) -> ConsensusBackend | None:
    """Return what keeps the store and the leases in place of the built-in voters.

    Called before all other hooks that take a context: ``context.store``, ``context.leases`` and
    ``context.lease`` are this backend from then on, for all plugins. It must hold for all nodes of
    the fleet. Its ``run`` is a supervised task of the plugin; at the end ``close`` is awaited for
    at most 10 seconds, after the plugins' ``stop`` and before the others are told goodbye.

    Only one plugin may return one: a second one is ``failed``. When an enabled plugin that has this
    hook fails, before or later, there is no consensus on this node; the built-in voters do not step
    in, since then two would give out leases.
    """


# --- lifecycle ------------------------------------------------------------------------------


@hookspec
async def start(context: PluginContext) -> None:
    """The agent has its membership and catalog; begin to work.

    Called once, before the local services are started, and awaited for at most 10 seconds, for
    all plugins at the same time. May be plain ``def``. What should go on in the background is
    given to ``context.spawn(name, function)``, which restarts it with backoff when it fails and
    shows it in ``constellation status``. A plugin whose ``start`` raises or is too slow is
    ``failed``; its tasks are cancelled.
    """


@hookspec
async def stop(context: PluginContext) -> None:
    """The agent stops; the local instances are stopped already, the membership still works.

    Awaited once, in the reverse order of ``enabled``, for at most 5 seconds. Background tasks
    are cancelled afterwards; an error is logged.
    """


# --- events ---------------------------------------------------------------------------------


@hookspec
async def node_joined(node: Node) -> None:
    """A node was seen alive for the first time, or again after it was dead or had left.

    Also called for the nodes that are known when the plugin starts, except the local one.
    """


@hookspec
async def node_failed(node: Node) -> None:
    """A node was declared dead: it stopped answering, and nobody could reach it."""


@hookspec
async def node_left(node: Node) -> None:
    """A node said goodbye."""


@hookspec
async def node_updated(node: Node, previous: Node) -> None:
    """A living node changed what it tells of itself, its address, or is suspect now or no more."""


@hookspec
async def instance_changed(instance: Instance, previous: Instance | None) -> None:
    """An instance, on any node, appeared or changed in any way.

    ``previous`` is ``None`` for a new one. Also called for those known when the plugin starts.
    """


@hookspec
async def instance_removed(instance: Instance) -> None:
    """An instance is gone for good; ``instance`` is what was last known of it."""


@hookspec
async def health_changed(instance: Instance, previous: Instance) -> None:
    """The health of an instance, on any node, changed; follows its ``instance_changed``."""


@hookspec
async def service_changed(
    service: PublishedService | None, previous: PublishedService | None
) -> None:
    """The fleet's definition of a service changed, is new (``previous`` is ``None``), or is gone
    (``service`` is ``None``)."""


@hookspec
async def lease_acquired(name: str, lease: LeaseView) -> None:
    """Some agent, maybe this one, holds the lease ``name`` now.

    For display and for those who follow a leader: it may be told late, and what only the holder may
    do is decided within ``async with context.lease(name)``, never by this. Also called for the
    leases that are held when the plugin starts.
    """


@hookspec
async def lease_lost(name: str, lease: LeaseView) -> None:
    """The lease ``name`` is not held any more as it was: it was released, or has expired.

    ``lease`` is how it was held. When another agent has it already, ``lease_acquired`` follows.
    Changes that follow each other closely may be told as one.
    """


@hookspec
async def leader_changed(leader: str | None, previous: str | None) -> None:
    """Another voter leads, as far as this node knows; ``None`` while nobody does.

    Both are names of nodes, or of members of whatever keeps consensus. Nothing is to be decided by
    it: leases are what gives something one owner. Also called for the leader that is known when
    the plugin starts.
    """


# --- decide ---------------------------------------------------------------------------------


@hookspec(firstresult=True)
def choose_driver(service: Service, drivers: Sequence[str]) -> str | None:
    """Which of the ``drivers``, all of which accept it, should run ``service``.

    Asked when a service is about to start and its definition names no driver. Without an
    answer the first of ``drivers`` is taken; an answer that is not among them is passed over.
    """
