"""FedMP's E-UCB."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.parts.ratio.bandits.arms import best, upper_bounds
from fedlight.parts.ratio.bandits.bandit import (
    ArmStatistics,
    Bandit,
    By,
    Draw,
    Floats,
    Memory,
    check_by,
    check_discount,
    check_scale,
)
from fedlight.parts.ratio.fixed import check_ratio

_FORGOTTEN = 1e-9  # a play of less weight counts as never played: its bonus would beat all others anyway
_NUM_STRETCHES = 5  # of the range, in logs
_DECIMALS = 4  # of ratios: fewer different submodels to price


@final
class EUCB(Bandit):
    """Discounted UCB over a growing partition of the range of ratios into intervals.

    Play: the leaf of the largest R̄_j(λ) + scale · sqrt(2 log Σ_i N_i(λ) / N_j(λ)) (a leaf without plays first), and in
    it a ratio drawn uniformly. Learn: a leaf wider than ``granularity`` is split at the ratio played. A play belongs to
    the leaf that its ratio lies in, so old plays follow into the halves.

    Z. Jiang, Y. Xu, H. Xu, Z. Wang, C. Qiao, Y. Zhao: FedMP: Federated Learning through Adaptive Model Pruning in
    Heterogeneous Edge Computing. ICDE 2022 (λ and θ are not known, see
    docs/algorithms/fedmp.md). With λ ≤ .95 and scale 1 it is as good as random play. 4 numbers per play remembered.

    Args:
        low: smallest ratio, in [0, 1).
        high: ratios stay below it, in [low, 1); equal to ``low``: always that ratio.
        discount: λ in (0, 1]; 1 never forgets.
        granularity: θ: leaves up to this width aren't split, > 0.
        bonus_scale: factor on the bonus, >= 0; 1 is the textbook.
        by: ``round``: the past fades with every round of the run; ``play``: with every play of the agent.
    """

    def __init__(
        self,
        low: float = 0.0,
        high: float = 0.8,
        discount: float = 0.98,
        granularity: float = 0.05,
        bonus_scale: float = 1.0,
        by: By = "round",
    ) -> None:
        self.low, self.high = check_ratio(low, "low"), check_ratio(high, "high")
        if self.high < self.low:
            raise ConfigError(f"high={high} is below low={low}: raise it")
        if not granularity > 0.0:
            raise ConfigError(f"granularity={granularity} would split intervals for ever: use a width above 0")
        self.discount = check_discount(discount)
        self.granularity = granularity
        self.bonus_scale = check_scale(bonus_scale)
        self.by = check_by(by)

    def start(self) -> Memory:
        """Return no plays: one leaf."""
        return np.zeros(0)

    def select(self, memory: Memory, round_idx: int, draw: Draw) -> float:
        """Return a ratio in the leaf of the largest index."""
        plays, borders = self._plays(memory), self.borders(memory)
        now = self._last(plays) + 1.0 if self.by == "play" else float(round_idx)
        counts, sums = self._tally(plays, borders, now)
        rng = draw()
        leaf = best(upper_bounds(counts, sums, self.bonus_scale), lambda: rng)
        ratio = float(rng.uniform(borders[leaf], borders[leaf + 1]))
        rounded = round(ratio, _DECIMALS)
        return rounded if borders[leaf] <= rounded < borders[leaf + 1] else ratio

    def update(self, memory: Memory, round_idx: int, ratio: float, reward: float) -> Memory:
        """Return the plays with this one; those that have faded go, unless they are borders."""
        if not self.low <= ratio < self.high:
            return memory
        plays, borders = self._plays(memory), self.borders(memory)
        leaf = int(np.searchsorted(borders, ratio, side="right"))
        low, high = borders[leaf - 1], borders[leaf]
        splits = high - low > self.granularity and low < ratio
        now = self._last(plays) + 1.0 if self.by == "play" else float(round_idx)
        kept = plays[(plays[:, 3] > 0) | (self._weights(plays, now) > _FORGOTTEN)]
        return np.append(kept, [[now, ratio, reward, float(splits)]], axis=0).flatten()

    def statistics(self, memory: Memory, round_idx: int) -> list[ArmStatistics]:
        """Return discounted plays and rewards by fifths of the range."""
        plays = self._plays(memory)
        edges = np.linspace(self.low, self.high, _NUM_STRETCHES + 1)
        now = self._last(plays) if self.by == "play" else float(round_idx)
        counts, sums = self._tally(plays, edges, now)
        rows = zip(edges.round(6).tolist(), counts.tolist(), sums.tolist(), strict=False)
        return [ArmStatistics(ratio, plays, rewards) for ratio, plays, rewards in rows]

    def num_arms(self, memory: Memory) -> int:
        """Return the number of leaves."""
        return len(self.borders(memory)) - 1

    def check(self, memory: Memory) -> None:
        """Raise ConfigError if a memory is of another kind of bandit, or of another range."""
        if len(memory) % 4 or ((ratios := memory[1::4]) < self.low).any() or (ratios >= self.high).any():
            raise ConfigError(
                f"the checkpoint's bandits don't fit ratios from {self.low} to {self.high}: resume with that run's "
                "bandit and range"
            )

    def borders(self, memory: Memory) -> Floats:
        """Return the leaves' borders in order, [num_leaves + 1]."""
        plays = self._plays(memory)
        return np.concatenate([[self.low], np.sort(plays[plays[:, 3] > 0, 1]), [self.high]])

    def _plays(self, memory: Memory) -> Floats:
        """Return rows (time, ratio, reward, whether it split its leaf)."""
        return memory.reshape(-1, 4)

    def _last(self, plays: Floats) -> float:
        return float(plays[:, 0].max(initial=0.0))

    def _weights(self, plays: Floats, now: float) -> Floats:
        weights: Floats = self.discount ** np.maximum(now - plays[:, 0], 0.0)
        return weights

    def _tally(self, plays: Floats, borders: Floats, now: float) -> tuple[Floats, Floats]:
        leaves = np.searchsorted(borders[1:-1], plays[:, 1], side="right")
        weights, count = self._weights(plays, now), len(borders) - 1
        weights = np.where(weights > _FORGOTTEN, weights, 0.0)
        return (
            np.bincount(leaves, weights=weights, minlength=count).astype(np.float64),
            np.bincount(leaves, weights=weights * plays[:, 2], minlength=count).astype(np.float64),
        )
