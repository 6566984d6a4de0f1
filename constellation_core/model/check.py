"""Health checks, as a service definition states them. What runs them is a plugin's work."""

from __future__ import annotations

from dataclasses import KW_ONLY, field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from constellation_core.model.strict import STRICT, Argument, Words, matching


def _check_port_ref(value: int | str) -> int | str:
    if value == "" or (isinstance(value, int) and not 1 <= value <= 65_535):
        raise ValueError("a port is named by its name or by its number, 1 to 65535")
    return value


Seconds = Annotated[float, Field(gt=0, le=86_400)]
PortRef = Annotated[
    int | str, AfterValidator(_check_port_ref), Words("name or number of one of the `ports`")
]
"""A port of the service: its name, or its number."""
HeaderName = Annotated[
    Argument,
    matching(
        r"[A-Za-z0-9!#$%&'*+.^_`|~-]+",
        "a header's name is letters, digits and some signs, without spaces or ':'",
    ),
]
"""A token of RFC 9110, section 5.6.2."""
HeaderValue = Annotated[
    Argument,
    matching(
        r"[^\x00-\x08\x0a-\x1f\x7f]*", "a header's value is one line without control characters"
    ),
]
"""Without what would end the header, or break it."""
UrlPath = Annotated[
    Argument, matching(r"/\S*", "a path begins with '/' and has no spaces"), Words("URL path")
]


def _check_statuses(value: tuple[int, int]) -> tuple[int, int]:
    if not 100 <= value[0] <= value[1] <= 999:
        raise ValueError("expected the lowest and the highest status, such as (200, 399)")
    return value


Statuses = Annotated[
    tuple[int, int], AfterValidator(_check_statuses), Words("two numbers, 100 to 999")
]


@dataclass(frozen=True, config=STRICT)
class Check:
    """What all checks share.

    Attributes:
        interval: seconds between the end of one probe and the start of the next.
        timeout: seconds after which a probe counts as failed.
        rise: how many passes in a row make an instance healthy.
        fall: how many failures in a row make it unhealthy.
        start_period: seconds after a start in which failures do not count.
    """

    _: KW_ONLY
    interval: Seconds = 10.0
    timeout: Seconds = 5.0
    rise: Annotated[int, Field(ge=1, le=100)] = 1
    fall: Annotated[int, Field(ge=1, le=100)] = 3
    start_period: Annotated[float, Field(ge=0, le=86_400)] = 0.0


@dataclass(frozen=True, config=STRICT)
class HTTPCheck(Check):
    """Passes when a GET of ``path`` answers with one of ``statuses``.

    Attributes:
        path: begins with ``/``.
        port: name or number of the port; the service's first one when not given.
        statuses: the lowest and highest status that pass.
        scheme: ``https`` takes any certificate.
        headers: sent with the request; ``Host`` among them when wanted. They travel with the
            definition: no secret belongs here.
    """

    path: UrlPath = "/"
    _: KW_ONLY
    port: PortRef | None = None
    scheme: Literal["http", "https"] = "http"
    statuses: Statuses = (200, 399)
    headers: dict[HeaderName, HeaderValue] = field(default_factory=dict)
    kind: Literal["http"] = "http"


@dataclass(frozen=True, config=STRICT)
class TCPCheck(Check):
    """Passes when a connection to ``port`` is accepted.

    Attributes:
        port: name or number of the port; the service's first one when not given.
    """

    port: PortRef | None = None
    _: KW_ONLY
    kind: Literal["tcp"] = "tcp"


@dataclass(frozen=True, config=STRICT)
class ExecCheck(Check):
    """Passes when ``command``, run in the instance's environment, exits with 0.

    Attributes:
        command: program and arguments; no shell.
    """

    command: Annotated[tuple[Argument, ...], Field(min_length=1)]
    _: KW_ONLY
    kind: Literal["exec"] = "exec"


@dataclass(frozen=True, config=STRICT)
class DriverCheck(Check):
    """Passes while the runtime driver itself calls the instance well.

    For a process this means that it runs; for a container, its engine's own health check.
    """

    kind: Literal["driver"] = "driver"


AnyCheck = Annotated[HTTPCheck | TCPCheck | ExecCheck | DriverCheck, Field(discriminator="kind")]
