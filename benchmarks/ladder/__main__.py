"""`python -m benchmarks.ladder`."""

from benchmarks.ladder.run import main

main()
