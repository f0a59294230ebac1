"""Steps as Ray jobs: what each runs, what it needs, and how it is sent to a cluster."""
