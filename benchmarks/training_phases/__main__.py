"""`python -m benchmarks.training_phases`."""

from benchmarks.training_phases.run.run import main

main()
