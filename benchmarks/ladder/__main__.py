"""`python -m benchmarks.ladder`."""

from benchmarks.ladder.run.run import main

main()
