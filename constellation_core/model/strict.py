"""How every definition in the model is validated."""

from __future__ import annotations

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)
"""No unknown field, and no value in an error text: a value may be a secret."""
