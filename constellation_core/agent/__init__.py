"""The agent: puts gossip, catalog, plugins, workloads and API together, and runs them."""
