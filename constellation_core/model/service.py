"""A service: what an operator wants to run, as a typed Python value."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import KW_ONLY, field
from typing import Annotated, Literal, Self, cast

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.check import AnyCheck, PortRef
from constellation_core.model.consistency import Overlap, host_ports, overlap, problems
from constellation_core.model.image import ImageName
from constellation_core.model.jobs import AnyDependency, Dependency, InitJob
from constellation_core.model.logs import LogOptions
from constellation_core.model.names import Label
from constellation_core.model.networks import AnyNetwork, Network
from constellation_core.model.placement import Placement
from constellation_core.model.port import Port, find_port, implied_ports
from constellation_core.model.resources import Resources
from constellation_core.model.route import AnyRoute
from constellation_core.model.secrets import AnySecret, Secret
from constellation_core.model.security import Security, User
from constellation_core.model.strict import STRICT, Argument, Variable, Words, matching
from constellation_core.model.update import Order, UpdatePolicy
from constellation_core.model.volumes import AnyMount
from constellation_core.model.words import did_you_mean, nearest


def _signal_name(value: object) -> object:
    if isinstance(value, signal.Signals):
        return value.name
    if isinstance(value, str):
        name = value.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name in signal.Signals.__members__:
            return name
        hint = did_you_mean(nearest(name, signal.Signals.__members__))
        raise ValueError(f"{value!r} is not a signal of this system, such as 'SIGTERM'{hint}")
    return value


SignalName = Annotated[str, BeforeValidator(_signal_name), Words("name of a signal")]
ShortWord = Annotated[str, Field(min_length=1, max_length=63)]
Folder = Annotated[Argument, matching(r"(?s:.+)", "it is empty; leave it out"), Words("path")]
LabelKey = Annotated[
    Argument,
    matching(
        r"(?!constellation\.)[A-Za-z0-9]([A-Za-z0-9._/-]{0,253}[A-Za-z0-9])?",
        "a label's name is up to 255 letters, digits, '.', '_', '/' and '-', beginning and ending "
        "with a letter or digit; those that begin with 'constellation.' are set by Constellation",
    ),
    Words("name of a label"),
]


@dataclass(frozen=True, config=STRICT)
class Restart:
    """What to do when an instance exits or stays unhealthy.

    The wait before restart *n* is ``min(max_delay, delay * 2 ** n)`` with jitter.

    Attributes:
        policy: ``always``; ``on-failure`` (a clean exit 0 stays down); or ``never``.
        delay: seconds before the first restart.
        max_delay: the longest wait, in seconds.
        reset_after: a healthy run of so many seconds forgets the earlier restarts.
        crash_loop_after: after so many restarts without such a run the instance is reported as
            crash-looping; it is still tried.
    """

    policy: Literal["always", "on-failure", "never"] = "always"
    _: KW_ONLY
    delay: Annotated[float, Field(gt=0, le=3600)] = 1.0
    max_delay: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    reset_after: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    crash_loop_after: Annotated[int, Field(ge=1, le=1000)] = 5


@dataclass(frozen=True, config=STRICT)
class Service:
    """Something to run, to check and to route to.

    It has an ``image``, or a ``command``, or both. With an image a container runs, where
    ``command`` replaces what the image would run; with a command alone, a process.

    Attributes:
        name: unique among the services of a cluster.
        image: the container image, such as ``nginx:1.29``.
        entrypoint: replaces the image's own; ``command`` are its arguments then.
        command: program and arguments; no shell. ``${PORT}``, ``${PORT_NAME}``, ``${NODE}``,
            ``${SERVICE}`` and ``${INSTANCE}`` are filled in.
        pull: when the image is fetched: ``missing`` when the node lacks it, ``always`` before
            each new instance, ``never``.
        env: added to the little that every instance gets; the agent's own environment is not
            inherited, but for ``PATH``, ``HOME``, ``LANG`` and ``TZ`` by a process. It travels
            with the definition: a secret belongs into ``secrets``.
        secrets: files that it finds under ``/run/secrets``, by name.
        workdir: working directory; by default the image's own, or for a process the instance's.
        user: who runs it; by default the image's own user.
        ports: what it listens on. Where this is empty, ports that ``routes`` and ``check`` name
            by number count as listed, each with the name ``p`` and its number.
        networks: those that it is in: ``backend``, ``publicnet``, ``warp-nat-net``, ``host`` or
            ones of its own; by default the one that the driver gives to who asks for none.
        volumes: what is mounted into it.
        routes: how traffic reaches it.
        check: how its health is found; by default, that it runs.
        restart: what to do when it dies or stays sick.
        stop_signal: sent first when it is to stop; by default the image's own, else SIGTERM.
        stop_grace: seconds from ``stop_signal`` to SIGKILL.
        mode: ``replicated`` runs ``replicas`` instances; ``global`` one on every node that
            ``placement`` allows; ``singleton`` one, and never two at a time, whatever happens.
        replicas: how many instances there are to be; 0 for none at present.
        placement: where they may run.
        resources: what each may use, and what is kept free for it.
        security: what it may do beyond the least.
        update: how a new definition replaces what runs.
        when_isolated: what its instances on a node do that is cut off from most others: ``keep``
            running, the default, or ``stop``. A singleton always stops.
        depends_on: services that must be there before it starts.
        init: what is to be done before it starts.
        log: how much of its output is kept, and where; by default as the driver is set.
        labels: put on its containers.
        weight: its instances' share of traffic on this node; 0 takes none.
        tags: free words, shown and gossiped.
        driver: name of the runtime driver; by default the first that accepts the service.

    Raises:
        pydantic.ValidationError: at construction, when a value is wrong.
    """

    name: Label
    _: KW_ONLY
    image: ImageName | None = None
    entrypoint: Annotated[tuple[Argument, ...], Field(min_length=1)] | None = None
    command: tuple[Argument, ...] = ()
    pull: Literal["missing", "always", "never"] = "missing"
    env: dict[Variable, Argument] = field(default_factory=dict, repr=False)
    secrets: Annotated[tuple[AnySecret, ...], Field(max_length=64)] = ()
    workdir: Folder | None = None
    user: User | None = None
    ports: Annotated[tuple[Port, ...], Field(max_length=64)] = ()
    networks: Annotated[tuple[AnyNetwork, ...], Field(max_length=16)] = ()
    volumes: Annotated[tuple[AnyMount, ...], Field(max_length=64)] = ()
    routes: Annotated[tuple[AnyRoute, ...], Field(max_length=64)] = ()
    check: AnyCheck | None = None
    restart: Restart = field(default_factory=Restart)
    stop_signal: SignalName | None = None
    stop_grace: Annotated[float, Field(ge=0, le=3600)] = 10.0
    mode: Literal["replicated", "global", "singleton"] = "replicated"
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    placement: Placement = field(default_factory=Placement)
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    update: UpdatePolicy = field(default_factory=UpdatePolicy)
    when_isolated: Literal["keep", "stop"] | None = None
    depends_on: Annotated[tuple[AnyDependency, ...], Field(max_length=64)] = ()
    init: Annotated[tuple[InitJob, ...], Field(max_length=16)] = ()
    log: LogOptions | None = None
    labels: dict[LabelKey, Argument] = field(default_factory=dict)
    weight: Annotated[int, Field(ge=0, le=1000)] = 1
    tags: tuple[ShortWord, ...] = ()
    driver: Label | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.ports:
            # Frozen for everybody else: nobody has seen this value yet.
            object.__setattr__(self, "ports", implied_ports(self.routes, self.check))
        if found := "; ".join(problems(self)):
            raise ValueError(f"service {self.name!r}: {found}")
        return self

    def port(self, ref: PortRef | None = None) -> Port:
        """The port with this name or number, or the first one.

        Raises:
            ValueError: when the service has no such port.
        """
        return find_port(self.ports, ref)

    # What may be written in a short form, in the form that it is kept in.

    @property
    def secret_files(self) -> tuple[Secret, ...]:
        """``secrets``."""
        return cast("tuple[Secret, ...]", self.secrets)

    @property
    def attached_networks(self) -> tuple[Network, ...]:
        """``networks``."""
        return cast("tuple[Network, ...]", self.networks)

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """``depends_on``."""
        return cast("tuple[Dependency, ...]", self.depends_on)

    # What follows from several fields together.

    @property
    def stops_when_isolated(self) -> bool:
        """Whether instances stop on a node that is cut off from most others."""
        return self.mode == "singleton" or self.when_isolated == "stop"

    @property
    def host_ports(self) -> Mapping[str, int]:
        """The fixed ports of the node that each instance takes, by the ports' names."""
        return host_ports(self)

    @property
    def overlap(self) -> Overlap:
        """Whether two instances can run on one node at the same time, and if not, why."""
        return overlap(self)

    @property
    def update_order(self) -> Order:
        """``update.order``, or what it is by default for this service."""
        return self.update.order or ("start-first" if self.overlap.safe else "stop-first")
