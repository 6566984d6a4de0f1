"""What tests of this plugin need: real members, and simulated ones."""
