"""Unimodal UCB."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.parts.ratio.bandits.arms import best, upper_bounds
from fedlight.parts.ratio.bandits.bandit import ArmStatistics, Bandit, By, Draw, Floats, Memory, check_scale
from fedlight.parts.ratio.bandits.grid import Grid


@final
class UnimodalUCB(Bandit):
    """UCB among the best arm so far and its two neighbours: reward over ratio usually has one peak (OSUB).

    Leader L = argmax_j R̄_j over arms ever played (before the first play: the middle arm). l_L is how often L has led,
    this time included. Where (l_L - 1) / 3 is whole, L is played; otherwise argmax over L - 1, L, L + 1 of R̄_j +
    scale · sqrt(2 log l_L / N_j).

    R. Combes, A. Proutiere: Unimodal Bandits: Regret Lower Bounds and Optimal Algorithms. ICML 2014, algorithm OSUB on
    a line (γ = 2). Differs: the UCB1 bonus in the place of the Kullback-Leibler one, since rewards aren't Bernoulli,
    and N and R̄ may be discounted (leads aren't).

    Args:
        ratios: the arms, each in [0, 1), rising; None: 0, .2, .4, .6, .8.
        discount: λ in (0, 1]; 1 never forgets.
        bonus_scale: factor on the bonus, >= 0.
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
        if self.grid.ratios != sorted(self.grid.ratios):
            raise ConfigError(f"ratios={self.grid.ratios} don't rise: UnimodalUCB needs to know who neighbours whom")
        self.bonus_scale = check_scale(bonus_scale)

    def start(self) -> Memory:
        """Return an empty tally and no leads."""
        return np.concatenate([self.grid.start(), np.zeros(len(self.grid))])

    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return the leader, or the best of it and its neighbours."""
        tally, leads = self._split(memory)
        counts, sums = self.grid.tally(tally, round_idx)
        leader = _leader(counts, sums)
        if counts[leader] > 0 and leads[leader] % 3 == 0:
            return self.grid.ratios[leader]
        near = slice(max(leader - 1, 0), leader + 2)
        bounds = upper_bounds(counts[near], sums[near], self.bonus_scale, total=leads[leader] + 1.0)
        return self.grid.ratios[near.start + best(bounds, draw)]

    def update(self, memory: Memory, round_idx: int, ratio: float, reward: float) -> Memory:
        """Return tally and leads after a play."""
        tally, leads = self._split(memory)
        led = leads.copy()
        led[_leader(*self.grid.tally(tally, round_idx))] += 1.0
        return np.concatenate([self.grid.add(tally, round_idx, ratio, reward), led])

    def statistics(self, memory: Memory, round_idx: int) -> list[ArmStatistics]:
        """Return discounted plays and rewards of every arm."""
        return self.grid.statistics(self._split(memory)[0], round_idx)

    def num_arms(self, memory: Memory) -> int:
        """Return the number of ratios."""
        return len(self.grid)

    def check(self, memory: Memory) -> None:
        """Raise ConfigError if a memory is of other arms."""
        if len(memory) != len(self.start()):
            raise ConfigError(
                f"the checkpoint's bandits have {(len(memory) - 1) // 3} arms, ratios has {len(self.grid)}: "
                "resume with the ratios of that run"
            )

    def _split(self, memory: Memory) -> tuple[Memory, Floats]:
        return memory[: -len(self.grid)], memory[-len(self.grid) :]


def _leader(counts: Floats, sums: Floats) -> int:
    if not counts.any():
        return len(counts) // 2
    return int(np.where(counts > 0, sums / np.where(counts > 0, counts, 1.0), -np.inf).argmax())
