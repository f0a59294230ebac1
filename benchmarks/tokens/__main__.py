"""`python -m benchmarks.tokens`."""

from benchmarks.tokens.run import main

main()
