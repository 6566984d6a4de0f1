"""Voters as processes that can be killed, and a record of what they acknowledged."""
