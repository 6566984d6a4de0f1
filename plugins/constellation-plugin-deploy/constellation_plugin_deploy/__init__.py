"""Deployment of services: so far, where their instances run."""
