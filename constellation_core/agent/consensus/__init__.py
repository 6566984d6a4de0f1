"""Consensus in an agent."""
