"""What an instance finds in its environment, and ``${...}`` in its command."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from constellation_core.model.port import Port
from constellation_core.runtime import InstanceSpec

_REFERENCE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


def provided_variables(spec: InstanceSpec, ports: Mapping[str, int]) -> dict[str, str]:
    """The variables that the driver tells an instance of itself."""
    variables = {"NODE": spec.node, "SERVICE": spec.service.name, "INSTANCE": spec.id}
    variables["ADDRESS"] = spec.address
    for position, port in enumerate(spec.service.ports):
        number = str(ports[port.name])
        variables[port_variable(port)] = number
        if position == 0:
            variables["PORT"] = number
    return variables


def port_variable(port: Port) -> str:
    """``PORT_NAME`` for the port called ``name``."""
    return "PORT_" + port.name.upper().replace("-", "_")


def fill_in(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``${NAME}`` where ``NAME`` is one of ``variables``; leave everything else alone."""
    return _REFERENCE.sub(lambda match: variables.get(match[1], match[0]), text)


def command_of(spec: InstanceSpec, variables: Mapping[str, str]) -> Sequence[str]:
    """Program and arguments, filled in."""
    return [fill_in(word, variables) for word in spec.service.command]


def environment_of(
    spec: InstanceSpec,
    variables: Mapping[str, str],
    passthrough: Sequence[str],
    marker: Mapping[str, str],
) -> dict[str, str]:
    """The whole environment of an instance: inherited, provided, defined, in this order."""
    inherited = {name: os.environ[name] for name in passthrough if name in os.environ}
    defined = {name: fill_in(value, variables) for name, value in spec.service.env.items()}
    return {**inherited, **variables, **defined, **marker}
