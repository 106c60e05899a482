"""One process: wiring, RPC, CLI."""
