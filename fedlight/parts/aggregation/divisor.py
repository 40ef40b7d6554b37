"""What an entry's sum is divided by, by name."""

from __future__ import annotations

from typing import Literal

from fedlight.core.slots import Aggregation
from fedlight.errors import ConfigError
from fedlight.parts.aggregation.coverage_mean import CoverageMean
from fedlight.parts.aggregation.residual_recovery import ResidualRecovery

Divisor = Literal["coverage", "clients"]
"""The clients that hold the entry, or all of the round's."""


def of_divisor(divisor: Divisor, update_norm: float | None = None) -> Aggregation:
    """Return the mean over the clients that hold an entry (``coverage``), or over all (``clients``).

    Args:
        divisor: which.
        update_norm: length that updates are scaled to first; None: as they are.

    Raises:
        ConfigError: it is neither.
    """
    if divisor not in ("coverage", "clients"):
        raise ConfigError(f"divisor={divisor!r} is unknown: use 'coverage' or 'clients'")
    return CoverageMean(update_norm) if divisor == "coverage" else ResidualRecovery(update_norm)
