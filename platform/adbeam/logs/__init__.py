"""From raw ad logs and catalogues to clean events, per-user sequences and splits (Ray Data)."""
