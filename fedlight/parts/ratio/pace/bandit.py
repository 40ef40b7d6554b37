"""A pace that is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from fedlight.core.seeds import SERVER, numpy_generator
from fedlight.core.slots import Part
from fedlight.core.types import Report, RoundState
from fedlight.parts.ratio.bandits import Bandit, DiscountedUCB
from fedlight.parts.ratio.bandits.statistics import bandit_metrics
from fedlight.parts.ratio.pace.pace import Pace, Target, Tempo, quantile_of
from fedlight.parts.ratio.reward import Reward

_PENDING = 64  # rounds back that a late client is still credited to


@final
class BanditPace(Pace):
    """One bandit plays the level, and all clients feed it: some tens of rounds are enough for a handful of arms.

    A round's reward (:meth:`~fedlight.parts.Reward.of_round`) goes to the levels that its clients were sent off at.

    Args:
        bandit: its arms are levels; None: discounted UCB over 0, .2, .4, .6, .8 with λ = .95 and a tenth of the bonus.
        reward: what a round was worth; None: fall of the mean training loss per simulated second.
        target: whose time is common: ``fastest``, ``median``, ``slowest``, or a quantile in [0, 1].
    """

    def __init__(self, bandit: Bandit | None = None, reward: Reward | None = None, target: Target = "fastest") -> None:
        self.bandit = bandit or DiscountedUCB(discount=0.95, bonus_scale=0.1)
        self.reward = reward or Reward("global_loss", per="round_s")
        self.reward.check_common()
        self.quantile = quantile_of(target)
        self._memory = self.bandit.start()
        self._played: dict[int, float] = {}  # level by round
        self._metrics: dict[str, float] = {}

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Let the reward get to know the algorithm's parts."""
        self.reward.meet(parts)

    def tempo(self, state: RoundState) -> Tempo:
        """Return the level that the bandit plays in this round."""
        if state.round_idx not in self._played:
            self._played[state.round_idx] = self.bandit.select(
                self._memory, state.round_idx, lambda: numpy_generator(state.seed, state.round_idx, SERVER, "pace")
            )
        return Tempo(self._played[state.round_idx], self.quantile)

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Reward the levels of the clients that have just finished."""
        reward = self.reward.of_round(state, reports)
        rounds = {report.round_idx for report in reports}
        for level in sorted({self._played[index] for index in rounds if index in self._played}):
            if reward is not None:
                self._memory = self.bandit.update(self._memory, state.round_idx, level, reward)
        self._played = {index: level for index, level in self._played.items() if index > state.round_idx - _PENDING}
        self._metrics = bandit_metrics(self.bandit, [self._memory], state.round_idx)

    def metrics(self) -> dict[str, float]:
        """Return discounted plays and mean reward of every level, and their number."""
        return dict(self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return what the bandit knows, and what it has played."""
        return {
            "memory": torch.from_numpy(self._memory.copy()),
            "played": dict(self._played),
            "reward": self.reward.state_dict(),
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back; raises ConfigError for other arms."""
        memory = state["memory"].numpy().copy()
        self.bandit.check(memory)
        self._memory, self._played = memory, dict(state["played"])
        self.reward.load_state_dict(state["reward"])
        self._metrics = dict(state["metrics"])
