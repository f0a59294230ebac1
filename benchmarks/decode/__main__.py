"""`python -m benchmarks.decode`."""

from benchmarks.decode.run.run import main

main()
