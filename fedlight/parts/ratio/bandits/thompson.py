"""Thompson sampling."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.parts.ratio.bandits.bandit import By, Draw, Memory, check_scale
from fedlight.parts.ratio.bandits.grid import Grid, GridBandit

_PRIOR_MEAN = 0.5  # the middle of [0, 1], which rewards are mapped to


@final
class Thompson(GridBandit):
    """Draw each arm's worth, θ_j ~ N((R̄_j N_j + ½) / (N_j + 1), s² / (N_j + 1)), and play the largest.

    S. Agrawal, N. Goyal: Further Optimal Regret Bounds for Thompson Sampling. AISTATS 2013, algorithm 2 (Gaussian
    priors, s = 1), with one play's worth of the prior ½ instead of 0, and with N and R̄ discounted. In one round, agents
    that share a memory would draw alike: chance comes from (seed, round, client).

    Args:
        ratios: the arms, each in [0, 1); None: 0, .2, .4, .6, .8.
        discount: λ in (0, 1]; 1 never forgets.
        bonus_scale: s, standard deviation of one reward, >= 0; 1 is the textbook.
        by: ``round``: the past fades with every round of the run; ``play``: with every play of the agent.
    """

    def __init__(
        self,
        ratios: list[float] | None = None,
        discount: float = 1.0,
        bonus_scale: float = 1.0,
        by: By = "round",
    ) -> None:
        self.grid = Grid(ratios, discount, by)
        self.bonus_scale = check_scale(bonus_scale)

    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return the arm whose drawn worth is largest."""
        counts, sums = self.grid.tally(memory, round_idx)
        means = (sums + _PRIOR_MEAN) / (counts + 1.0)
        worths = means + self.bonus_scale / np.sqrt(counts + 1.0) * draw().standard_normal(len(self.grid))
        return self.grid.ratios[int(worths.argmax())]
