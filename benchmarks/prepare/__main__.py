"""`python -m benchmarks.prepare`."""

from benchmarks.prepare.run import main

main()
