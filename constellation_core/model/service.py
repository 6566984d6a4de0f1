"""A service: what an operator wants to run, as a typed Python value."""

from __future__ import annotations

import signal
from dataclasses import KW_ONLY
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.check import AnyCheck, PortRef
from constellation_core.model.names import Label
from constellation_core.model.port import Port, check_ports, find_port
from constellation_core.model.route import AnyRoute
from constellation_core.model.strict import STRICT, Argument

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


def _signal_name(value: object) -> object:
    if isinstance(value, signal.Signals):
        return value.name
    if isinstance(value, str):
        name = value.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name in signal.Signals.__members__:
            return name
        raise ValueError(f"{value!r} is not a signal of this system; for example SIGTERM")
    return value


SignalName = Annotated[str, BeforeValidator(_signal_name)]


@dataclass(frozen=True, config=STRICT)
class Restart:
    """What to do when an instance exits or stays unhealthy.

    The wait before restart *n* is ``min(max_delay, delay * 2 ** n)`` with jitter. A run of
    ``reset_after`` healthy seconds forgets the earlier restarts. After ``crash_loop_after``
    restarts without such a run the instance is reported as crash-looping; it is still tried.

    Attributes:
        policy: ``always``; ``on-failure`` (a clean exit 0 stays down); or ``never``.
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

    Attributes:
        name: unique among the services of a cluster.
        command: program and arguments; no shell. ``${PORT}``, ``${PORT_NAME}``, ``${NODE}``,
            ``${SERVICE}`` and ``${INSTANCE}`` are filled in.
        env: added to the little that every instance gets; the agent's own environment is not
            inherited, but for ``PATH``, ``HOME``, ``LANG`` and ``TZ``.
        workdir: working directory; by default the instance's own directory.
        ports: what it listens on.
        routes: how traffic reaches it.
        check: how its health is found; by default, that it runs.
        restart: what to do when it dies or stays sick.
        stop_signal: sent first when it is to stop.
        stop_grace: seconds from ``stop_signal`` to SIGKILL.
        weight: its instances' share of traffic on this node; 0 takes none.
        tags: free words, shown and gossiped.
        driver: name of the runtime driver; by default the first that accepts the service.

    Raises:
        pydantic.ValidationError: at construction, when a value is wrong.
    """

    name: Label
    _: KW_ONLY
    command: Annotated[tuple[Argument, ...], Field(min_length=1)]
    env: dict[Annotated[str, Field(pattern=_VARIABLE)], Argument] = Field(
        default_factory=dict, repr=False
    )
    workdir: Annotated[Argument, Field(min_length=1)] | None = None
    ports: tuple[Port, ...] = ()
    routes: tuple[AnyRoute, ...] = ()
    check: AnyCheck | None = None
    restart: Restart = Field(default_factory=Restart)
    stop_signal: SignalName = "SIGTERM"
    stop_grace: Annotated[float, Field(ge=0, le=3600)] = 10.0
    weight: Annotated[int, Field(ge=0, le=1000)] = 1
    tags: tuple[Annotated[str, Field(min_length=1, max_length=63)], ...] = ()
    driver: Label | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            if not self.command[0]:
                raise ValueError("command is empty")
            check_ports(self.ports, self.routes, self.check)
        except ValueError as error:
            raise ValueError(f"service {self.name!r}: {error}") from None
        return self

    def port(self, ref: PortRef | None = None) -> Port:
        """The port with this name or number, or the first one.

        Raises:
            ValueError: when the service has no such port.
        """
        return find_port(self.ports, ref)
