"""UCB1."""

from __future__ import annotations

from typing import final

from fedlight.parts.ratio.bandits.arms import best, upper_bounds
from fedlight.parts.ratio.bandits.bandit import Draw, Memory, check_scale
from fedlight.parts.ratio.bandits.grid import Grid, GridBandit


@final
class UCB1(GridBandit):
    """Play argmax_j R̄_j + scale · sqrt(2 log n / N_j): for rewards that don't drift.

    P. Auer, N. Cesa-Bianchi, P. Fischer: Finite-time Analysis of the Multiarmed Bandit Problem. Machine Learning 2002,
    fig. 1.

    Args:
        ratios: the arms, each in [0, 1); None: 0, .2, .4, .6, .8.
        bonus_scale: factor on the bonus, >= 0; 1 is the textbook.
    """

    def __init__(self, ratios: list[float] | None = None, bonus_scale: float = 1.0) -> None:
        self.grid = Grid(ratios, 1.0, "round")
        self.bonus_scale = check_scale(bonus_scale)

    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return the arm of the largest index."""
        counts, sums = self.grid.tally(memory, round_idx)
        return self.grid.ratios[best(upper_bounds(counts, sums, self.bonus_scale), draw)]
