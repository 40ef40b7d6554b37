"""Arms on a grid, and the tally of one agent's plays of them."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.errors import ConfigError
from fedlight.parts.ratio.bandits.arms import faded
from fedlight.parts.ratio.bandits.bandit import (
    ArmStatistics,
    Bandit,
    By,
    Floats,
    Memory,
    check_by,
    check_discount,
)
from fedlight.parts.ratio.fixed import check_ratios


@final
class Grid:
    """A few ratios, with discounted counts N and sums R̄ N of each: 1 + 2 · num_arms numbers per agent.

    Time is the round, or the number of the agent's plays; a choice sees a play of one unit of time ago at weight λ.

    Args:
        ratios: the arms, each in [0, 1); None: 0, .2, .4, .6, .8.
        discount: λ in (0, 1].
        by: what makes the past fade.
    """

    def __init__(self, ratios: list[float] | None, discount: float, by: By) -> None:
        self.ratios = check_ratios([0.0, 0.2, 0.4, 0.6, 0.8] if ratios is None else ratios, "ratios")
        self.discount = check_discount(discount)
        self.by = check_by(by)

    def __len__(self) -> int:
        """Number of arms."""
        return len(self.ratios)

    def start(self) -> Memory:
        """Return (time, N, R̄ N), all zero."""
        return np.zeros(1 + 2 * len(self))

    def tally(self, memory: Memory, round_idx: int) -> tuple[Floats, Floats]:
        """Return N and R̄ N as a choice in this round sees them, [num_arms] each."""
        elapsed = 1.0 if self.by == "play" else round_idx - memory[0]
        counts, sums = faded(memory[1:], self.discount, elapsed).reshape(2, -1)
        return counts, sums

    def add(self, memory: Memory, round_idx: int, ratio: float, reward: float) -> Memory:
        """Return the memory after one more play; as it was for a ratio off the grid (of a job from before a change)."""
        if ratio not in self.ratios:
            return memory
        arm = self.ratios.index(ratio)
        now = memory[0] + 1.0 if self.by == "play" else float(round_idx)
        after = np.concatenate([[now], faded(memory[1:], self.discount, now - memory[0])])
        after[1 + arm] += 1.0
        after[1 + len(self) + arm] += reward
        return after

    def statistics(self, memory: Memory, round_idx: int) -> list[ArmStatistics]:
        """Return how the arms stand now."""
        now = memory[0] if self.by == "play" else round_idx
        counts, sums = faded(memory[1:], self.discount, now - memory[0]).reshape(2, -1)
        rows = zip(self.ratios, counts.tolist(), sums.tolist(), strict=True)
        return [ArmStatistics(ratio, plays, rewards) for ratio, plays, rewards in rows]

    def check(self, memory: Memory) -> None:
        """Raise ConfigError if a memory is of another number of arms."""
        if len(memory) != 1 + 2 * len(self):
            raise ConfigError(
                f"the checkpoint's bandits have {(len(memory) - 1) // 2} arms, ratios has {len(self)}: "
                "resume with the ratios of that run"
            )


class GridBandit(Bandit):
    """A bandit that remembers a grid's tally: what it plays is all that is open.

    Attributes:
        grid: the arms, and how their plays are counted.
    """

    grid: Grid

    def start(self) -> Memory:
        """Return an empty tally."""
        return self.grid.start()

    def update(self, memory: Memory, round_idx: int, ratio: float, reward: float) -> Memory:
        """Return the tally after a play."""
        return self.grid.add(memory, round_idx, ratio, reward)

    def statistics(self, memory: Memory, round_idx: int) -> list[ArmStatistics]:
        """Return discounted plays and rewards of every arm."""
        return self.grid.statistics(memory, round_idx)

    def num_arms(self, memory: Memory) -> int:
        """Return the number of ratios."""
        return len(self.grid)

    def check(self, memory: Memory) -> None:
        """Raise ConfigError if a memory is of other arms."""
        self.grid.check(memory)
