"""Discounted UCB."""

from __future__ import annotations

from typing import final

from fedlight.parts.ratio.bandits.arms import best, upper_bounds
from fedlight.parts.ratio.bandits.bandit import By, Draw, Memory, check_scale
from fedlight.parts.ratio.bandits.grid import Grid, GridBandit


@final
class DiscountedUCB(GridBandit):
    """Play argmax_j R̄_j(λ) + scale · sqrt(2 log Σ_i N_i(λ) / N_j(λ)), arms never played first, by chance.

    A. Garivier, E. Moulines: On Upper-Confidence Bound Policies for Switching Bandit Problems. ALT 2011, §3 (B = 1,
    ξ = ½). The effective memory is 1 / (1 - λ) plays, so keep few arms, or scale the bonus down.

    Args:
        ratios: the arms, each in [0, 1); None: 0, .2, .4, .6, .8.
        discount: λ in (0, 1]; 1 never forgets and is UCB1.
        bonus_scale: factor on the bonus, >= 0; 1 is the textbook, which in some tens of rounds is close to random play.
        by: ``round``: the past fades with every round of the run; ``play``: with every play of the agent.
    """

    def __init__(
        self,
        ratios: list[float] | None = None,
        discount: float = 0.98,
        bonus_scale: float = 1.0,
        by: By = "round",
    ) -> None:
        self.grid = Grid(ratios, discount, by)
        self.bonus_scale = check_scale(bonus_scale)

    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return the arm of the largest index."""
        counts, sums = self.grid.tally(memory, round_idx)
        return self.grid.ratios[best(upper_bounds(counts, sums, self.bonus_scale), draw)]
