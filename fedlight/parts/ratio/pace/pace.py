"""How fast a round shall be, for everyone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedlight.core.slots import Part
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.ratio.fixed import check_ratio

Target = Literal["fastest", "median", "slowest"] | float


@dataclass(frozen=True)
class Tempo:
    """What all clients of a round must meet: T* = quantile over the cohort of T_n(level).

    Attributes:
        level: ratio of those who set the pace, in [0, 1).
        quantile: whose time it is, in [0, 1]: 0 the fastest client's, 1 the slowest's.
    """

    level: float
    quantile: float


class Pace(Part):
    """How fast shall this round be? Its memory travels with the ratio policy's that it is part of."""

    @abstractmethod
    def tempo(self, state: RoundState) -> Tempo:
        """Return what the clients sent off now must meet."""

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Learn from the clients that have just finished."""


def quantile_of(target: Target, key: str = "target") -> float:
    """Return the quantile in [0, 1] that a target names; raises ConfigError that names ``key``."""
    names = {"fastest": 0.0, "median": 0.5, "slowest": 1.0}
    quantile = names.get(target) if isinstance(target, str) else float(target)
    if quantile is None or not 0.0 <= quantile <= 1.0:
        raise ConfigError(f"{key}={target!r} is no quantile: use 'fastest', 'median', 'slowest' or a number in [0, 1]")
    return quantile


def check_levels(levels: Sequence[float], key: str = "levels") -> list[float]:
    """Return levels if there is one at least and each is a ratio; else raises ConfigError."""
    if not levels:
        raise ConfigError(f"{key} is empty: give at least one ratio in [0, 1)")
    return [check_ratio(level, f"{key}[{index}]") for index, level in enumerate(levels)]
