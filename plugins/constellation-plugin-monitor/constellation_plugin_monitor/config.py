"""The table ``[plugins.monitor]`` of agent.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MonitorConfig(BaseModel):
    """Settings of the plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    restart: bool = Field(
        default=True,
        description="Restart unhealthy instances, by the restart policy of their service.",
    )
    max_concurrent: int = Field(
        default=32, ge=1, le=1000, description="How many checks run at the same time."
    )
