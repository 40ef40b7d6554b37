"""Sliding-window UCB."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.parts.ratio.bandits.arms import best, upper_bounds
from fedlight.parts.ratio.bandits.bandit import ArmStatistics, Bandit, By, Draw, Floats, Memory, check_by, check_scale
from fedlight.parts.ratio.fixed import check_ratios


@final
class SlidingWindowUCB(Bandit):
    """Play argmax_j R̄_j + scale · sqrt(2 log n / N_j), with N, n and R̄ over the last ``window`` rounds or plays.

    A. Garivier, E. Moulines: On Upper-Confidence Bound Policies for Switching Bandit Problems. ALT 2011, §4. Their
    padding B sqrt(ξ log(min(t, τ)) / N) with B = 1, ξ = ½ is ``bonus_scale=0.5`` here: the scale is that of the other
    bandits, so that equal scales compare. Remembers 3 numbers per play in the window.

    Args:
        ratios: the arms, each in [0, 1); None: 0, .2, .4, .6, .8.
        window: τ, rounds or plays that count, >= 1.
        bonus_scale: factor on the bonus, >= 0.
        by: whether the window counts rounds of the run or plays of the agent.
    """

    def __init__(
        self,
        ratios: list[float] | None = None,
        window: int = 50,
        bonus_scale: float = 1.0,
        by: By = "round",
    ) -> None:
        self.ratios = check_ratios([0.0, 0.2, 0.4, 0.6, 0.8] if ratios is None else ratios, "ratios")
        if window < 1:
            raise ConfigError(f"window={window} remembers nothing: use 1 or more")
        self.window = window
        self.bonus_scale = check_scale(bonus_scale)
        self.by = check_by(by)

    def start(self) -> Memory:
        """Return no plays."""
        return np.zeros(0)

    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return the arm of the largest index."""
        counts, sums = self._tally(self._recent(memory, round_idx))
        return self.ratios[best(upper_bounds(counts, sums, self.bonus_scale), draw)]

    def update(self, memory: Memory, round_idx: int, ratio: float, reward: float) -> Memory:
        """Return the plays of the window and this one."""
        if ratio not in self.ratios:
            return memory
        plays = np.append(memory.reshape(-1, 3), [[round_idx, self.ratios.index(ratio), reward]], axis=0)
        return self._recent(plays, round_idx + 1).flatten()

    def statistics(self, memory: Memory, round_idx: int) -> list[ArmStatistics]:
        """Return plays and rewards of every arm within the window."""
        counts, sums = self._tally(self._recent(memory, round_idx + 1))
        rows = zip(self.ratios, counts.tolist(), sums.tolist(), strict=True)
        return [ArmStatistics(ratio, plays, rewards) for ratio, plays, rewards in rows]

    def num_arms(self, memory: Memory) -> int:
        """Return the number of ratios."""
        return len(self.ratios)

    def check(self, memory: Memory) -> None:
        """Raise ConfigError if a memory is of another kind of bandit, or of more arms."""
        if len(memory) % 3 or memory[1::3].max(initial=0.0) >= len(self.ratios):
            raise ConfigError(
                f"the checkpoint's bandits don't fit a window over {len(self.ratios)} ratios: resume with that run's "
                "bandit and ratios"
            )

    def _recent(self, memory: Memory, round_idx: int) -> Floats:
        """Return the plays that count in a round: (round, arm, reward) rows."""
        plays = memory.reshape(-1, 3)
        return plays[-self.window :] if self.by == "play" else plays[plays[:, 0] >= round_idx - self.window]

    def _tally(self, plays: Floats) -> tuple[Floats, Floats]:
        arms, count = plays[:, 1].astype(np.int64), len(self.ratios)
        return (
            np.bincount(arms, minlength=count).astype(np.float64),
            np.bincount(arms, weights=plays[:, 2], minlength=count).astype(np.float64),
        )
