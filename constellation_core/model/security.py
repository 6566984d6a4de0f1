"""What an instance may do on its node beyond the least."""

from __future__ import annotations

from dataclasses import KW_ONLY, field
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from constellation_core.model.strict import STRICT, Argument, Words, matching
from constellation_core.model.words import did_you_mean, nearest

# capabilities(7), as of Linux 6.12.
_CAPABILITIES = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN
    DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE
    MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON
    SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
CAPABILITIES = frozenset(_CAPABILITIES.split())


def check_capability(value: str) -> str:
    """``cap_net_admin`` and ``NET_ADMIN`` as ``NET_ADMIN``.

    Raises:
        ValueError: when Linux has none of that name.
    """
    name = value.upper().removeprefix("CAP_")
    if name in CAPABILITIES or name == "ALL":
        return name
    hint = did_you_mean(nearest(name, CAPABILITIES)) or "; for example 'NET_BIND_SERVICE'"
    raise ValueError(f"{value!r} is no capability of Linux{hint}")


Capability = Annotated[
    str, AfterValidator(check_capability), Words("capability, such as `NET_BIND_SERVICE`")
]
User = Annotated[
    str,
    matching(
        r"([0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?)(:([0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,31}))?",
        'expected USER or USER:GROUP, names or numbers, such as "1000:1000"',
    ),
    Words("text `USER` or `USER:GROUP`, names or numbers"),
]
Device = Annotated[
    Argument,
    matching(r"/dev/[^:\s]+", "expected a device of the node, such as '/dev/net/tun'"),
    Words("path below `/dev`"),
]
Sysctl = Annotated[
    str,
    matching(
        r"[a-z0-9_]+(\.[A-Za-z0-9_*/-]+)+",
        "expected the name of a kernel setting, such as 'net.ipv4.ip_forward'",
    ),
]


@dataclass(frozen=True, config=STRICT)
class Security:
    """What an instance may do beyond the least.

    Without it a container has no capability at all, cannot gain privileges by running a
    set-user-id program, and sees no device of the node.

    Attributes:
        read_only_root: whether its root file system is read-only; it then writes only to its
            volumes and to ``Tmpfs``.
        capabilities: those of capabilities(7) that it gets; ``ALL`` gives every one.
        new_privileges: whether a program that it runs may gain privileges (set-user-id).
        devices: devices of the node that it may use.
        sysctls: kernel settings of its own network and IPC namespaces.
    """

    _: KW_ONLY
    read_only_root: bool = False
    capabilities: Annotated[tuple[Capability, ...], Field(max_length=64)] = ()
    new_privileges: bool = False
    devices: Annotated[tuple[Device, ...], Field(max_length=64)] = ()
    sysctls: dict[Sysctl, Argument] = field(default_factory=dict)
