"""The settings of an agent: one model for each section of agent.toml.

The descriptions below are also the comments of the file that ``constellation init`` writes
and the text of docs/configuration.md. ``env`` in ``json_schema_extra`` names a variable that
gives the default; ``example`` is shown where a default would say little.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from constellation_core.config.addresses import (
    Address,
    AdvertisedAddress,
    BindAddress,
    PeerAddress,
)
from constellation_core.config.values import (
    ConfigPath,
    DataPath,
    DomainName,
    Flag,
    NoRepeats,
    Real,
    SecretPath,
    SocketMode,
    Voters,
    Whole,
    check_socket_path,
    freeze,
)
from constellation_core.model.names import Label, NodeName


def _host_name() -> str:
    return socket.gethostname()


class Section(BaseModel):
    """What all sections share: immutable, no unknown key, no value in an error text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )


class AgentSettings(Section):
    """Who this node is, and where it keeps things."""

    name: NodeName = Field(
        default_factory=_host_name,
        description="This node's name, unique in the cluster. By default the host name.",
        json_schema_extra={"env": "TS_HOSTNAME", "example": "node-a"},
    )
    domain: DomainName = Field(
        default="",
        description="The domain under which services are reached: {domain} in routes.",
        json_schema_extra={"env": "DOMAIN", "example": "example.com"},
    )
    region: Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9._-]*$")] = Field(
        default="",
        description="Where the node stands, told to the other nodes: up to 63 of letters, "
        "digits, '.', '_' and '-'.",
        json_schema_extra={"example": "eu"},
    )
    data_dir: ConfigPath = Field(
        default=Path("/var/lib/constellation"),
        description="The agent's own state and its socket.",
    )
    config_path: ConfigPath = Field(
        default=Path("/opt/constellation/config"),
        description="Configuration files of services, for their volumes.",
        json_schema_extra={"env": "CONFIG_PATH"},
    )
    secrets_path: ConfigPath = Field(
        default=Path("/opt/constellation/secrets"),
        description="Secret files. None may be readable by group or others (chmod 600).",
        json_schema_extra={"env": "SECRETS_PATH"},
    )
    services: ConfigPath | None = Field(
        default=None,
        description="The Python file that defines the services of this node. Without it the "
        "agent starts none of its own.",
        json_schema_extra={"example": "services.py"},
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important messages that are logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How a log message is written: text for people, json (one object a line) "
        "for collectors.",
    )


class GossipSettings(Section):
    """Membership: who is alive. With the default timings a dead node is noticed within
    3 seconds in small clusters, within 4 among 30 nodes. All nodes of a cluster
    should use the same timings."""

    bind: BindAddress = Field(
        default=Address("0.0.0.0", 7946),
        description="Where to listen, UDP and TCP. Port 0 takes a free one.",
    )
    advertise: AdvertisedAddress | None = Field(
        default=None,
        description="The address that other nodes are told, where it differs from bind (behind "
        "NAT, or bound to all addresses). Port 0 stands for the port of bind. By default the "
        "address of bind or, when that is all addresses, the one at which the nodes to join see "
        "this one; never that of a container bridge.",
        json_schema_extra={"example": "100.64.0.1:7946"},
    )
    join: NoRepeats[PeerAddress] = Field(
        default=(),
        description="Other nodes to find the cluster by. One that answers is enough; this "
        "node itself may be among them.",
        json_schema_extra={"example": ["node-b:7946", "node-c:7946"]},
    )
    key_file: ConfigPath = Field(
        default=Path("cluster.key"),
        description="The cluster key, the same file on every node: 32 bytes as base64, "
        "readable by its owner only (chmod 600).",
    )
    encryption: Flag = Field(
        default=True,
        description="Encrypt and authenticate all gossip with a key made from the cluster key. "
        "Without it anyone who reaches the port can speak for any node.",
    )
    probe_interval: Real = Field(
        default=0.5, ge=0.1, le=60, description="Seconds between two probes of other nodes."
    )
    probe_timeout: Real = Field(
        default=0.25,
        ge=0.02,
        le=30,
        description="Seconds to wait for the answer to a probe before others are asked to try. "
        "Less than probe_interval.",
    )
    indirect_probes: Whole = Field(
        default=3, ge=0, le=10, description="How many other nodes are asked to try."
    )
    suspicion_multiplier: Real = Field(
        default=2.5,
        ge=2,
        le=20,
        description="How long a node stays suspect before it is declared dead: this many probe "
        "intervals, more in large clusters.",
    )
    gossip_interval: Real = Field(
        default=0.2, ge=0.02, le=10, description="Seconds between two rounds of news."
    )
    gossip_nodes: Whole = Field(
        default=3, ge=1, le=10, description="How many nodes hear the news in each round."
    )
    push_pull_interval: Real = Field(
        default=30.0,
        ge=1,
        le=600,
        description="Seconds between two full exchanges of state with another node.",
    )
    rejoin_interval: Real = Field(
        default=10.0,
        ge=0.5,
        le=600,
        description="Seconds between two attempts to find a node again that is dead, or that was "
        "known in an earlier life of this agent.",
    )
    forget_dead: Real = Field(
        default=86_400.0,
        ge=1,
        le=2_592_000,
        description="Seconds for which a dead node stays listed. It is tried again for longer.",
    )

    @model_validator(mode="after")
    def _timeout_within_interval(self) -> Self:
        if self.probe_timeout >= self.probe_interval:
            raise ValueError(
                f"probe_timeout ({self.probe_timeout:g} s) must be less than probe_interval "
                f"({self.probe_interval:g} s)"
            )
        return self


class CatalogSettings(Section):
    """The catalog: which instance is where and how it is, told from node to node."""

    bytes_per_second: Whole = Field(
        default=12_000,
        ge=1_000,
        le=10_000_000,
        description="What this node may spend on telling changes, in bytes a second. Failures go "
        "first; what does not fit is found by comparing with other nodes, some seconds later.",
    )
    damping: Real = Field(
        default=5.0,
        ge=5,
        le=600,
        description="An instance that fails and recovers again and again is told to be well at "
        "most every so many seconds, and takes no traffic in between. Failures are told at once.",
    )


class ConsensusSettings(Section):
    """Agreement on what must have one owner: leases and the store. A few agents, the voters, keep
    its log; the others ask them over the gossip port. Needs [gossip] encryption."""

    bind: BindAddress = Field(
        default=Address("0.0.0.0", 7947),
        description="Where to listen for the other voters, TCP, while this agent is one. A port "
        "that cannot be bound costs this agent its vote and nothing else.",
    )
    advertise: AdvertisedAddress | None = Field(
        default=None,
        description="The address that the other voters are told, where it differs from bind. Port "
        "0 stands for the port of bind. By default the address of bind or, when that is all "
        "addresses, the one that gossip tells the other nodes.",
        json_schema_extra={"example": "100.64.0.1:7947"},
    )
    voters: Voters = Field(
        default=3,
        description="How many agents hold the log: 1, 3, 5 or 7, the same on every node. The "
        "first time, consensus begins when so many may vote; later there is 1 while fewer than 3 "
        "may. With 3 one may be lost, with 5 two; with 1 none.",
    )
    vote: Flag = Field(
        default=True,
        description="Whether this agent may be a voter. They are chosen, replaced and spread over "
        "the regions by themselves.",
    )
    settle: Real = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Seconds for which the agents that may vote must not have changed before they "
        "found consensus.",
    )
    stable_after: Real = Field(
        default=30.0,
        ge=0,
        le=3_600,
        description="Seconds for which an agent must have been alive before it is made a voter.",
    )
    catch_up: Real = Field(
        default=30.0,
        ge=1,
        le=3_600,
        description="Seconds within which a new voter must have the log, or it is taken out again.",
    )
    replace_after: Real = Field(
        default=300.0,
        ge=1,
        le=86_400,
        description="Seconds after which a voter that is dead is replaced. Longer than a host "
        "takes to restart.",
    )

    @field_validator("bind")
    @classmethod
    def _same_port_again(cls, bind: Address) -> Address:
        if not bind.port:
            raise ValueError(
                "expected a port; 0 is none, since voters are found at the same one after a restart"
            )
        return bind


class ApiSettings(Section):
    """The agent's HTTP API: read-only on TCP, everything on a unix socket."""

    bind: BindAddress = Field(
        default=Address("127.0.0.1", 8081),
        description="Where to listen, TCP. Port 0 takes a free one.",
    )
    socket: DataPath = Field(
        default=Path("agent.sock"),
        description="The unix socket for commands; relative to data_dir. At most 107 bytes long.",
    )
    socket_mode: SocketMode = Field(
        default="0660",
        description="The socket's file mode, as an octal string. Whoever may write to the socket "
        "controls the agent, so others than owner and group are never let in.",
    )
    control: Flag = Field(
        default=False,
        description="Allow changes over TCP too, to callers with the token of token_file.",
    )
    token_file: SecretPath | None = Field(
        default=None,
        description="The file with the token for control over TCP; relative to secrets_path.",
        json_schema_extra={"example": "api-token.txt"},
    )

    _short_enough = field_validator("socket")(check_socket_path)

    @model_validator(mode="after")
    def _control_needs_a_token(self) -> Self:
        if self.control and self.token_file is None:
            raise ValueError("control = true needs token_file")
        return self


class PluginsSettings(Section):
    """Which plugins run, and the table of each."""

    enabled: NoRepeats[Label] = Field(
        default=(),
        description="Plugins in use, in the order in which they are called.",
        json_schema_extra={"example": ["process", "monitor", "traefik"]},
    )
    tables: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict,
        repr=False,
        json_schema_extra={"internal": True},
        description="The tables [plugins.NAME] of agent.toml as they are written, immutable; "
        "each plugin's model checks its own.",
    )

    _frozen_tables = field_validator("tables", mode="after")(freeze)


class Settings(Section):
    """All settings of an agent. Paths are absolute when they were loaded from a file."""

    agent: AgentSettings = Field(default_factory=AgentSettings)
    gossip: GossipSettings = Field(default_factory=GossipSettings)
    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    consensus: ConsensusSettings = Field(default_factory=ConsensusSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    plugins: PluginsSettings = Field(default_factory=PluginsSettings)


SECTIONS: Mapping[str, type[Section]] = {
    "agent": AgentSettings,
    "gossip": GossipSettings,
    "catalog": CatalogSettings,
    "consensus": ConsensusSettings,
    "api": ApiSettings,
    "plugins": PluginsSettings,
}
"""The sections of agent.toml, in the order in which they are validated and written."""
