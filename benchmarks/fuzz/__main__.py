"""`python -m benchmarks.fuzz`."""

from benchmarks.fuzz.run.run import main

main()
