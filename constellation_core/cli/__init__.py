"""The command line, ``constellation``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the ``constellation`` command."""
    # Imported here, so that plugins can import the client without typer.
    from constellation_core.cli.app import build_app
    from constellation_core.cli.errors import CliError

    try:
        build_app(sys.argv[1:])()
    except CliError as error:
        if os.environ.get("CONSTELLATION_DEBUG") == "1":
            raise
        sys.stderr.write(error.rendered())
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("CONSTELLATION_DEBUG") == "1":
            raise
        from constellation_core.config.problems import ConfigError

        if isinstance(error, ConfigError):
            sys.stderr.write(f"error: {error}\n")
            sys.exit(2)
        sys.stderr.write(
            f"error: {type(error).__name__}: {error}\n"
            "hint: this is a defect; CONSTELLATION_DEBUG=1 shows where\n"
        )
        sys.exit(1)
