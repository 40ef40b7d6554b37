"""One agent per client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import numpy as np
import torch

from fedlight.core.seeds import numpy_generator
from fedlight.core.slots import Part, Ratio
from fedlight.core.types import Report, RoundState
from fedlight.errors import ConfigError
from fedlight.parts.ratio.bandits.bandit import Bandit, Memory
from fedlight.parts.ratio.bandits.statistics import bandit_metrics
from fedlight.parts.ratio.reward import Reward

_MAX_ARMS = 6


@final
class PerClient(Ratio):
    """Every client has a bandit of its own, rewarded for the client's own plays.

    Memory is kept for clients that have learnt something, so a large fleet costs little. In logs, plays and rewards are
    those of the round's clients.

    Args:
        bandit: how an agent chooses; at most 6 arms on a grid, since a client plays some tens of times.
        reward: what a play was worth; None: fall of the client's loss over its distance from the mean time.
    """

    def __init__(self, bandit: Bandit, reward: Reward | None = None) -> None:
        num_arms = bandit.num_arms(bandit.start())
        if num_arms > _MAX_ARMS:
            raise ConfigError(f"ratios has {num_arms} arms, which a client can't try out: use {_MAX_ARMS} or fewer")
        self.bandit = bandit
        self.reward = reward or Reward()
        self._memory: dict[int, Memory] = {}
        self._metrics: dict[str, float] = {}

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Let the reward get to know the algorithm's parts."""
        self.reward.meet(parts)

    def choose(self, state: RoundState, cohort: Sequence[int]) -> dict[int, float]:
        """Return the ratio that every client's bandit plays."""
        chosen = {}
        for client in cohort:
            draw = partial(numpy_generator, state.seed, state.round_idx, client, "ratio")
            chosen[client] = self.bandit.select(self.memory(client), state.round_idx, draw)
        return chosen

    def observe(self, state: RoundState, reports: Sequence[Report]) -> None:
        """Reward the plays of the clients that have just finished; raises ConfigError where nothing can be learnt."""
        for report, reward in self.reward.of_clients(state, reports):
            self._memory[report.client] = self.bandit.update(
                self.memory(report.client), state.round_idx, report.ratio, reward
            )
        agents = [self._memory[client] for client in sorted({r.client for r in reports} & self._memory.keys())]
        self._metrics = bandit_metrics(self.bandit, agents, state.round_idx)

    def memory(self, client: int) -> Memory:
        """Return what a client's bandit has learnt."""
        return self._memory.get(client, self.bandit.start())

    def metrics(self) -> dict[str, float]:
        """Return discounted plays and mean reward of every arm, and the mean number of arms."""
        return dict(self._metrics)

    def forget(self, clients: Sequence[int]) -> None:
        """Drop these clients' bandits."""
        for client in clients:
            self._memory.pop(client, None)
        self.reward.forget(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return what every client's bandit knows."""
        memories = list(self._memory.values())
        return {
            "clients": torch.tensor(list(self._memory), dtype=torch.int64),
            "sizes": torch.tensor([len(memory) for memory in memories], dtype=torch.int64),
            "memories": torch.from_numpy(np.concatenate([np.zeros(0), *memories])),
            "reward": self.reward.state_dict(),
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back; raises ConfigError for other arms."""
        ends = np.cumsum(state["sizes"].numpy())[:-1]
        memories = np.split(state["memories"].numpy().copy(), ends) if len(state["sizes"]) else []
        for memory in memories:
            self.bandit.check(memory)
        self._memory = dict(zip(state["clients"].tolist(), memories, strict=True))
        self.reward.load_state_dict(state["reward"])
        self._metrics = dict(state["metrics"])
