"""History stores: SQLite and Redis, and what is trending in them."""
