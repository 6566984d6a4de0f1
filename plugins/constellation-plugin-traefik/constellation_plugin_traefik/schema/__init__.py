"""The parts of Traefik v3.7's dynamic configuration that an operator writes, as typed models.

Traefik refuses a whole document for one unknown field, wrong type or empty map in it, and a
router for one middleware that it cannot build. So every field of every model is one that the
real Traefik was seen to accept, and what it refuses is refused here, when the agent's
configuration is read.
"""
