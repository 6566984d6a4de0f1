"""The table ``[plugins.process]`` of agent.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class ProcessConfig(BaseModel):
    """Settings of the plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log_max_bytes: int = Field(
        default=10_000_000,
        ge=10_000,
        le=1_000_000_000,
        description="Size at which an instance's log file is set aside and a new one begun.",
    )
    log_files: int = Field(
        default=3, ge=1, le=100, description="How many log files are kept for each instance."
    )
    env_passthrough: tuple[Variable, ...] = Field(
        default=("PATH", "HOME", "LANG", "TZ"),
        description="Variables that instances get from the agent's own environment.",
    )
    orphan_grace: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="Seconds that the processes of a killed agent get between SIGTERM and SIGKILL.",
    )
