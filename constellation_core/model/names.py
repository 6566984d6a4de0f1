"""Names that operators give to things: what is allowed, in one place.

A service name becomes part of an instance id, a log file name, a proxy router name
and, later, a DNS label. So it is held to what all of these accept: the letters of an
RFC 1123 label, in lower case.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from constellation_core.model.strict import Words

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")


def check_label(value: str) -> str:
    """Return ``value`` when it is an RFC 1123 label in lower case.

    Raises:
        ValueError: with the rule and, where one is near, a name that would pass.
    """
    if _LABEL.fullmatch(value):
        return value
    near = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
    hint = f"; try {near!r}" if near else ""
    raise ValueError(
        f"{value!r} is not a usable name: 1 to 63 of a-z, 0-9 and '-', "
        f"beginning and ending with a letter or digit{hint}"
    )


def check_node_name(value: str) -> str:
    """Return ``value`` when it can name a node (memberlist names: 1 to 128 characters).

    Raises:
        ValueError: with the rule.
    """
    if _NODE.fullmatch(value):
        return value
    raise ValueError(
        f"{value!r} is not a usable node name: 1 to 128 of letters, digits, '.', '_' and '-', "
        "beginning and ending with a letter or digit"
    )


Label = Annotated[str, AfterValidator(check_label), Words("name")]
NodeName = Annotated[str, AfterValidator(check_node_name), Words("name of a node")]
