"""``constellation demo``: a fleet, a real Traefik and a steady load, on this host."""
