"""`python -m benchmarks.tokens_speed`, a child process of `benchmarks.tokens`."""

from benchmarks.tokens.speed import main

main()
