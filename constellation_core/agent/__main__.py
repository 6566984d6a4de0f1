"""``python -m constellation_core.agent [CONFIG]``: the agent without the command line's weight."""

from __future__ import annotations

import sys
from pathlib import Path

from constellation_core.config import ConfigError, load


def main() -> int:
    """Load the settings and run; returns the exit code."""
    try:
        loaded = load(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    from constellation_core.agent.run import run_agent

    return run_agent(loaded)


if __name__ == "__main__":
    sys.exit(main())
