"""How much is removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from fedlight.core.slots import Ratio
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError


def check_ratio(value: float, key: str) -> float:
    """Return a pruning ratio if it lies in [0, 1); raises ConfigError that names ``key``."""
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"{key}={value} is outside [0, 1): it is the fraction removed, 0 keeps everything")
    return float(value)


@final
class Fixed(Ratio):
    """The same ratio for every client in every round.

    Args:
        ratio: fraction removed, in [0, 1); 0 trains the full model.
    """

    def __init__(self, ratio: float = 0.0) -> None:
        self.ratio = check_ratio(ratio, "ratio")

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the ratio for every client."""
        return dict.fromkeys(cohort, self.ratio)
