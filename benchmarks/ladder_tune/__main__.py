"""`python -m benchmarks.ladder_tune`."""

from benchmarks.ladder_tune.run.run import main

main()
