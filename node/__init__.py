"""A node: its process and the one that checks signatures for it; wiring, RPC, CLI."""
