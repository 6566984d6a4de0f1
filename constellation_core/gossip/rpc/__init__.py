"""Reliable streams between agents, on gossip's TCP port: request and response, and many messages.

``opening.py``, ``keys.py``, ``frames.py`` and ``channel.py`` are the protocol: bytes and time in,
bytes out, nothing of asyncio. ``stream.py``, ``client.py``, ``server.py`` and ``endpoint.py`` run
it on sockets.
"""
