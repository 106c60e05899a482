"""The SDK: wallet, sealing, submitting, verifying."""
