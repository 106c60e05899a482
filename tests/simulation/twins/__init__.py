"""Twins: two honest copies of one validator, and every way to divide the hosts. `scripts/twins` runs it."""
