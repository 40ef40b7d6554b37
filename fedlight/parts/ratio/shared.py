"""One agent for all clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.slots import Part, Ratio
from fedlight.core.types import Report, RoundState
from fedlight.parts.ratio.bandits.bandit import Bandit
from fedlight.parts.ratio.bandits.statistics import bandit_metrics
from fedlight.parts.ratio.reward import Reward


@final
class Shared(Ratio):
    """One bandit plays one ratio per round for everyone, and all clients feed it.

    A play's reward is that of the whole round (:meth:`~fedlight.parts.Reward.of_round`), credited to the ratios that
    came back in it.

    Args:
        bandit: how the agent chooses.
        reward: what a round was worth; None: fall of the mean training loss per simulated second.
    """

    def __init__(self, bandit: Bandit, reward: Reward | None = None) -> None:
        self.bandit = bandit
        self.reward = reward or Reward("global_loss", per="round_s")
        self.reward.check_common()
        self._memory = bandit.start()
        self._metrics: dict[str, float] = {}

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Let the reward get to know the algorithm's parts."""
        self.reward.meet(parts)

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the round's ratio for every client."""
        ratio = self.bandit.select(
            self._memory, state.round_idx, lambda: numpy_generator(state.seed, state.round_idx, SERVER, "ratio")
        )
        return dict.fromkeys(cohort, ratio)

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Reward the ratios that came back; raises ConfigError where nothing can be learnt."""
        reward = self.reward.of_round(state, reports)
        if reward is not None:
            for ratio in sorted({report.ratio for report in reports}):
                self._memory = self.bandit.update(self._memory, state.round_idx, ratio, reward)
        self._metrics = bandit_metrics(self.bandit, [self._memory], state.round_idx)

    def metrics(self) -> dict[str, float]:
        """Return discounted plays and mean reward of every arm, and the number of arms."""
        return dict(self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return what the bandit knows."""
        return {
            "memory": torch.from_numpy(self._memory.copy()),
            "reward": self.reward.state_dict(),
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back; raises ConfigError for other arms."""
        memory = state["memory"].numpy().copy()
        self.bandit.check(memory)
        self._memory = memory
        self.reward.load_state_dict(state["reward"])
        self._metrics = dict(state["metrics"])
