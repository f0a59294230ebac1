"""`python -m benchmarks.inputs`."""

from benchmarks.inputs.run import main

main()
