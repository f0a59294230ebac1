"""`python -m adbeam.cli`, what a cluster's jobs run."""

from adbeam.cli import main

main()
