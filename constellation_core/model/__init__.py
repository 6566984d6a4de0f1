"""The words that everyone in Constellation shares: immutable values without behaviour."""
