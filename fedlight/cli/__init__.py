"""The command line: fit, validate, test, export and profile. The only place that knows YAML."""

from fedlight.cli.entry import main

__all__ = ["main"]
