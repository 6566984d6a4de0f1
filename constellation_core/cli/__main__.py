"""``python -m constellation_core.cli``."""

from constellation_core.cli import main

main()
