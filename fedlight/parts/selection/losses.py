"""How clients' training losses are read from their reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from fedlight.core.types import Report
from fedlight.errors import ConfigError

LOSS: Final = "train/loss"
SQUARED_LOSS: Final = "train/squared_loss"
"""Mean of the squared losses of single examples, where the client's module logs it."""


def root_mean_square_loss(report: Report) -> float:
    """Return √(mean loss²) of a client's examples; where only the mean loss is logged, its absolute value.

    The mean is never above the root mean square, and equal to it where all examples have one loss.

    Raises:
        ConfigError: the client's module logs neither.
    """
    if SQUARED_LOSS in report.metrics:
        return math.sqrt(max(0.0, report.metrics[SQUARED_LOSS]))
    if LOSS in report.metrics:
        return abs(report.metrics[LOSS])
    raise ConfigError(f"selection: clients report neither {SQUARED_LOSS} nor {LOSS}; return the loss in training_step")


def refuse_without(name: str, reports: Sequence[Report]) -> None:
    """Raise ConfigError if accepted clients report, and none of them this metric."""
    accepted = [report for report in reports if report.accepted]
    if accepted and not any(name in report.metrics for report in accepted):
        logged = ", ".join(sorted({tag for report in accepted for tag in report.metrics})) or "nothing"
        raise ConfigError(f"selection: no client logs {name} while it trains; they log {logged}: name one of these")
