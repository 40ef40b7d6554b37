"""Importance from what clients sum up while they train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import Reduce, RoundState, Update
from fedlight.errors import ConfigError
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.units import UnitSums, normalized
from fedlight.submodels.coverage import Coverage

StatisticName = Literal["abs_grad", "sq_grad", "taylor", "abs_change"]


@final
class ClientStatistic(Importance):
    """Mean of a per-entry statistic over all that a unit owns, over the clients that hold it, smoothed over rounds.

    In one round x_u = Σ_n Σ_i S_{n,i} / Σ_n K_n |{i}| over the entries i of unit u that client n covers, with S
    the sums that it returns and K its optimizer steps (1 for ``abs_change``). Then s_u ← decay · s_u +
    (1 - decay) · x_u for the units that somebody held; the others keep theirs. A unit that nobody has held yet
    counts as its group's mean, neither good nor bad. Before the first statistics come back, scores are those of
    :class:`Magnitude`.

    Clients need no extra pass. Costs the server one number per unit and round.

    Args:
        name: ``abs_grad`` Σ|g|, ``sq_grad`` Σg², ``taylor`` Σ(g·θ)² (Molchanov et al. 2019, Importance Estimation for
            Neural Network Pruning, eq. 8, by entry), ``abs_change`` |θ_end - θ_start|.
        decay: weight of the past, in [0, 1).
        normalizer: ``mean`` divides by the group's mean, so that groups compare under a global scope; None leaves it.
    """

    def __init__(
        self, name: StatisticName = "taylor", decay: float = 0.9, normalizer: Literal["mean"] | None = "mean"
    ) -> None:
        if name not in ("abs_grad", "sq_grad", "taylor", "abs_change"):
            raise ConfigError(f"name={name!r} is no statistic: use 'abs_grad', 'sq_grad', 'taylor' or 'abs_change'")
        if not 0.0 <= decay < 1.0:
            raise ConfigError(f"decay={decay} is outside [0, 1): 0 forgets at once, 0.9 remembers some ten rounds")
        self.name = name
        self.decay = decay
        self.normalizer = normalizer
        self.statistics = frozenset({name})
        self._fallback = Magnitude(normalizer=normalizer)
        self._smoothed = torch.zeros(0, dtype=torch.float64)
        self._seen = torch.zeros(0, dtype=torch.bool)

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if not bool(self._seen.any()):
            return self._fallback.scores(state, client)
        scores = self._smoothed.clone()
        for group in state.plan.groups:
            seen, of_group = self._seen[group.units], scores[group.units]
            of_group[~seen] = of_group[seen].mean() if bool(seen.any()) else 1.0
        return normalized(scores, state.plan.groups) if self.normalizer == "mean" else scores

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self._structure = state.plan.structure
        self._of_units = UnitSums(self._structure)
        self._sums = torch.zeros(2, state.plan.num_units, dtype=torch.float64)  # of statistics, of steps
        self._device = next(iter(state.weights.values())).device

    def add(self, coverage: Coverage, update: Update) -> None:
        """Take in one client's statistics; none of them if their sums aren't finite."""
        values = update.statistics.get(self.name, {})
        num_steps = 1 if self.name == "abs_change" else update.num_steps
        masks = coverage.masks or {}

        def held(name: str) -> Tensor | None:
            """1 where a value counts (as wide as needed, without memory)."""
            if name not in values:
                return None
            return masks[name].float() if name in masks else torch.ones(()).expand(values[name].shape)

        sums = self._of_units(values.get, coverage.keep)
        if not bool(torch.isfinite(sums).all()):
            return  # a square can overflow where the update doesn't, and would stay for good
        self._sums[0] += sums
        self._sums[1] += num_steps * self._of_units(held, coverage.keep)

    def finish(self, reduce: Reduce) -> None:
        """Close the round and smooth."""
        sums = self._sums.to(self._device)  # NCCL sums on GPUs only
        reduce(sums)
        totals, steps = sums.cpu()
        held = steps > 0
        if not len(self._seen):
            self._smoothed, self._seen = torch.zeros_like(totals), torch.zeros_like(held)
        news = torch.where(held, totals / steps.clamp(min=1.0), 0.0)
        decay = torch.where(self._seen, self.decay, 0.0)
        self._smoothed = torch.where(held, decay * self._smoothed + (1 - decay) * news, self._smoothed)
        self._seen = self._seen | held

    def state_dict(self) -> dict[str, Any]:
        """Return the smoothed statistics of the units."""
        return {"smoothed": self._smoothed.clone(), "seen": self._seen.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._smoothed, self._seen = state["smoothed"].clone(), state["seen"].clone()
