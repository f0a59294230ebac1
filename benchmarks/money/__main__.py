"""`python -m benchmarks.money`."""

from benchmarks.money.run import main

main()
