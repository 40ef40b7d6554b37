"""What a bandit is: constants, and how one agent's memory turns into a choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedlight.errors import ConfigError

Floats = npt.NDArray[np.float64]

Memory = Floats
"""All that one agent has learnt, float64[any length]; empty or zero before its first play."""

Draw = Callable[[], np.random.Generator]
"""Makes the generator of one choice; called only where chance decides."""

By = Literal["round", "play"]
"""What makes the past fade: every round of the run, or every play of the agent."""


@dataclass(frozen=True)
class ArmStatistics:
    """How an arm stands, for logs.

    Attributes:
        ratio: the arm, or the lower end of a stretch of arms.
        plays: discounted number of plays.
        rewards: discounted sum of rewards.
    """

    ratio: float
    plays: float
    rewards: float


class Bandit(ABC):
    """Which ratio pays? Holds constants only: an agent is a :data:`Memory`, so a hundred thousand cost little.

    :class:`~fedlight.parts.PerClient` keeps a memory per client, :class:`~fedlight.parts.Shared` and
    :class:`~fedlight.parts.BanditPace` one for all.
    """

    @abstractmethod
    def start(self) -> Memory:
        """Return the memory of an agent that has never played."""

    @abstractmethod
    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return the ratio to play in this round; the memory stays as it is."""

    @abstractmethod
    def update(self, memory: Memory, round_idx: int, ratio: float, reward: float) -> Memory:
        """Return the memory after a play; as it was for a ratio that isn't an arm."""

    @abstractmethod
    def statistics(self, memory: Memory, round_idx: int) -> list[ArmStatistics]:
        """Return how the arms stand, the same ratios for every memory."""

    @abstractmethod
    def num_arms(self, memory: Memory) -> int:
        """Return the number of arms that the agent has by now."""

    @abstractmethod
    def check(self, memory: Memory) -> None:
        """Raise ConfigError if a memory (out of a checkpoint) is of other arms."""


def check_discount(discount: float) -> float:
    """Return λ if it lies in (0, 1]; else raises ConfigError."""
    if not 0.0 < discount <= 1.0:
        raise ConfigError(f"discount={discount} is outside (0, 1]: 1 never forgets")
    return discount


def check_scale(bonus_scale: float) -> float:
    """Return the factor on the bonus if it is a number >= 0; else raises ConfigError."""
    if not 0.0 <= bonus_scale < float("inf"):
        raise ConfigError(f"bonus_scale={bonus_scale} is no number >= 0: 0 never explores, 1 is the textbook")
    return bonus_scale


def check_by(by: By) -> By:
    """Return what makes the past fade; raises ConfigError for anything unknown."""
    if by not in ("round", "play"):
        raise ConfigError(f"by={by!r} is unknown to bandits: use 'round' or 'play'")
    return by
