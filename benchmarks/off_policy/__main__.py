"""`python -m benchmarks.off_policy`."""

from benchmarks.off_policy.run import main

main()
