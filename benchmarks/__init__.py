"""Measurements of Constellation beside a peer, both taken in the same run.

``python -m benchmarks list`` and ``python -m benchmarks run NAME [--json]``.
"""
