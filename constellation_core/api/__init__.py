"""The agent's HTTP API: read-only on TCP, everything on a unix socket."""
