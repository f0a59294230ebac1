"""Ray Data as every room uses it: task runners, pools of actors, and reading Parquet."""
