"""`python -m benchmarks.training_phases`."""

from benchmarks.training_phases.run import main

main()
