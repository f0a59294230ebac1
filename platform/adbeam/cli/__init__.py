"""The command line. Nothing of it is loaded until `main` runs: jobs/*.py and the entry point import this package."""

from __future__ import annotations

from adbeam.imports.moved import names_of

__getattr__ = names_of("adbeam.cli", "adbeam.cli.root")


def main() -> None:
    """Entry point: a UserError is one clear line and exit code 2."""
    from adbeam.cli.root import run

    run()
