"""What is kept: the chain, promises, envelopes."""
