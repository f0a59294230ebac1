"""`python -m benchmarks.tokens`."""

from benchmarks.tokens.run.run import main

main()
