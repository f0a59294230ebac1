"""`python -m benchmarks.decode`."""

from benchmarks.decode.run import main

main()
