"""The command line: fit, validate, test, export, profile, partition, compare and report."""

from fedlight.cli.entry import main

__all__ = ["main"]
