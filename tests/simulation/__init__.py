"""A deterministic network of real replicas over a fake clock, network and disk. See docs/simulation.md."""
