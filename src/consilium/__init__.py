"""A permissioned peer-to-peer ledger for health records. Each floor is a package below this name."""
