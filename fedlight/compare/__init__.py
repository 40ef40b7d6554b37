"""Many paired runs from one file: which there are, running them, and handing them to the report."""

from fedlight.compare.comparison import Choice, Comparison, Stop, Variant
from fedlight.compare.folder import Ready, check_folder, find_start, is_done, lock, write_comparison
from fedlight.compare.plan import PlannedRun, plan_runs
from fedlight.compare.runner import Runner
from fedlight.compare.screen import Screen

__all__ = [
    "Choice",
    "Comparison",
    "PlannedRun",
    "Ready",
    "Runner",
    "Screen",
    "Stop",
    "Variant",
    "check_folder",
    "find_start",
    "is_done",
    "lock",
    "plan_runs",
    "write_comparison",
]
