"""The table ``[plugins.hello]`` of agent.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class HelloConfig(BaseModel):
    """Settings of the plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    greeting: str = Field(default="Hello", max_length=100, description="What to say to a node.")
