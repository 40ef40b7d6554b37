"""What a client starts from, where that isn't the global model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor

from fedlight.core.download import Download
from fedlight.core.types import RoundState, State
from fedlight.errors import ConfigError

_SLACK = 1e-9  # 0.5 * 4 may come out a hair above 2


@final
class SparseRewards(Download):
    """Every client has a model of its own, which moves by what it earned: the largest entries of the aggregate (CGSV).

    q_n = tanh(β r_n) / max_m tanh(β r_m) over the round's clients;  w_n ← w_n + v_n, with v_n the share q_n of the
    entries of U that are largest in absolute value, zero elsewhere. What a client trained is thrown away: it starts its
    next round from w_n, and its update is taken against w_n.

    X. Xu, L. Lyu et al.: Gradient Driven Rewards to Guarantee Fairness in Collaborative Machine Learning. NeurIPS 2021,
    §4. A client that has not returned yet starts from the global model; one that misses a round misses its reward.
    Float buffers move by all of their aggregate. By nature N models are held, by every process and in checkpoints.

    Args:
        altruism: β > 0: the larger, the more equal the rewards. tanh is near linear up to β of about the number of
            clients in a round, since their r, normalised, sum to 1: .5 and 2 give almost the same.
        scope: ``layer``: ⌈q · entries⌉ of every tensor, as in the published code; ``vector``: ⌊q · D⌋ of all entries
            together, as in the paper.
    """

    def __init__(self, altruism: float = 1.5, scope: Literal["layer", "vector"] = "layer") -> None:
        if not altruism > 0.0:
            raise ConfigError(f"altruism={altruism} is no degree: use a number above 0, 1.5 to begin with")
        if scope not in ("layer", "vector"):
            raise ConfigError(f"scope={scope!r} is unknown to SparseRewards: use 'layer' or 'vector'")
        self.altruism = altruism
        self.scope = scope
        self._models: dict[int, State] = {}
        self._quotas: dict[int, float] = {}

    def weights(self, state: RoundState, client: int) -> Mapping[str, Tensor]:
        """Return w_n; the global model for a client that has none yet."""
        own = self._models.get(client)
        if own is None:
            return state.weights
        return {name: own[name].to(value.device) for name, value in state.weights.items()}

    def observe(self, state: RoundState, aggregate: State, buffers: State, shares: Mapping[int, float]) -> None:
        """Reward the round's clients."""
        self._quotas = quotas(shares, self.altruism)
        for client, quota in self._quotas.items():
            reward = {**self._sparse(aggregate, quota), **buffers}
            self._models[client] = {
                name: value + reward[name].to(value) if name in reward else value.clone()
                for name, value in self.weights(state, client).items()
            }

    def forget(self, clients: Sequence[int]) -> None:
        """Drop these clients' models: they begin with the global one."""
        for client in clients:
            self._models.pop(client, None)

    def metrics(self) -> dict[str, float]:
        """Return the least and the mean share of the aggregate that clients of the round were given."""
        if not self._quotas:
            return {}
        given = self._quotas.values()
        return {"reward/min_quota": min(given), "reward/mean_quota": sum(given) / len(given)}

    def state_dict(self) -> dict[str, Any]:
        """Return every client's model."""
        return {"models": {client: dict(model) for client, model in sorted(self._models.items())}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._models = {client: dict(model) for client, model in state["models"].items()}

    def _sparse(self, aggregate: State, quota: float) -> State:
        if self.scope == "layer":
            return {
                name: largest(value, math.ceil(quota * value.numel() - _SLACK)) for name, value in aggregate.items()
            }
        flat = torch.cat([value.flatten() for value in aggregate.values()]) if aggregate else torch.zeros(0)
        kept = largest(flat, math.floor(quota * flat.numel() + _SLACK))
        parts = torch.split(kept, [value.numel() for value in aggregate.values()])
        return {name: part.view_as(value) for (name, value), part in zip(aggregate.items(), parts, strict=True)}


def quotas(shares: Mapping[int, float], altruism: float) -> dict[int, float]:
    """Return q_n = tanh(β r_n) / max_m tanh(β r_m) in [0, 1], with r the shares normalised to sum 1."""
    total = sum(shares.values())
    if total <= 0:
        return dict.fromkeys(shares, 0.0)
    earned = {client: math.tanh(altruism * share / total) for client, share in shares.items()}
    most = max(earned.values())
    return {client: value / most for client, value in earned.items()}


def largest(values: Tensor, count: int) -> Tensor:
    """Return ``values`` with all but the ``count`` entries of the largest absolute value set to zero."""
    if count >= values.numel():
        return values.clone()
    kept = torch.zeros_like(values, memory_format=torch.contiguous_format)
    chosen = values.abs().flatten().topk(count).indices
    kept.view(-1)[chosen] = values.flatten()[chosen]
    return kept
