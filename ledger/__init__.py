"""What is agreed on: transactions, blocks, proofs, state. Pure: no clock, no chance, no input or output."""
