"""The founding chapters' criteria by name."""

from __future__ import annotations

from typing import Literal, get_args

from fedlight.core.slots import Importance
from fedlight.errors import ConfigError
from fedlight.parts.importance.absolute_change import AbsoluteChange
from fedlight.parts.importance.client_statistic import ClientStatistic
from fedlight.parts.importance.entry_statistic import EntryStatistic
from fedlight.parts.importance.magnitude import Magnitude

Criterion = Literal["magnitude", "abs_change", "recent_change", "abs_grad", "sq_grad", "taylor"]


def of_criterion(criterion: Criterion, prune_every: int, by_entry: bool = False) -> Importance:
    """Return the importance that a criterion names.

    Args:
        criterion: |θ|, |θ^t - θ^0|, |θ^t - θ^last pruning|, |g|, g² or (g·θ)².
        prune_every: rounds between two prunings.
        by_entry: of single weights, for weight masks, where clients' statistics are concerned.

    Raises:
        ConfigError: another name.
    """
    if criterion == "magnitude":
        return Magnitude()
    if criterion in ("abs_change", "recent_change"):
        return AbsoluteChange(every=prune_every if criterion == "recent_change" else None)
    if criterion in ("abs_grad", "sq_grad", "taylor"):
        return EntryStatistic(criterion) if by_entry else ClientStatistic(criterion)
    raise ConfigError(f"criterion={criterion!r} is unknown: use one of {', '.join(get_args(Criterion))}")
