"""The matrix of crashes that `scripts/crash` runs: nodes that die, disks that lie, and what must hold all the same."""
