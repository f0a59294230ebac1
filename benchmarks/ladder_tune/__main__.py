"""`python -m benchmarks.ladder_tune`."""

from benchmarks.ladder_tune.run import main

main()
