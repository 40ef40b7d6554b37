"""UCB1."""

from __future__ import annotations

from typing import final

from fedlight.parts.ratio.bandits.bandit import ArmStatistics, Bandit, Draw, Memory
from fedlight.parts.ratio.bandits.discounted_ucb import DiscountedUCB


@final
class UCB1(Bandit):
    """Play argmax_j R̄_j + scale · sqrt(2 log n / N_j): for rewards that don't drift.

    P. Auer, N. Cesa-Bianchi, P. Fischer: Finite-time Analysis of the Multiarmed Bandit Problem. Machine Learning 2002,
    fig. 1.

    Args:
        ratios: the arms, each in [0, 1); None: 0, .2, .4, .6, .8.
        bonus_scale: factor on the bonus, >= 0; 1 is the textbook.
    """

    def __init__(self, ratios: list[float] | None = None, bonus_scale: float = 1.0) -> None:
        self._undiscounted = DiscountedUCB(ratios, 1.0, bonus_scale)

    def start(self) -> Memory:
        """Return an empty tally."""
        return self._undiscounted.start()

    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return the arm of the largest index."""
        return self._undiscounted.select(memory, round_idx, draw)

    def update(self, memory: Memory, round_idx: int, ratio: float, reward: float) -> Memory:
        """Return the tally after a play."""
        return self._undiscounted.update(memory, round_idx, ratio, reward)

    def statistics(self, memory: Memory, round_idx: int) -> list[ArmStatistics]:
        """Return plays and rewards of every arm."""
        return self._undiscounted.statistics(memory, round_idx)

    def num_arms(self, memory: Memory) -> int:
        """Return the number of ratios."""
        return self._undiscounted.num_arms(memory)

    def check(self, memory: Memory) -> None:
        """Raise ConfigError if a memory is of other arms."""
        self._undiscounted.check(memory)
