"""Which figures there are, what each takes, its newest result, who cites it, and whether it is stale."""
