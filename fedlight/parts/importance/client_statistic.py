"""Importance from what clients sum up while they train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import Job, Reduce, RoundState, Update
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.returned import StatisticName, checked_decay, checked_name, unit_sums
from fedlight.parts.importance.units import Normalizer, Reducer, Reduction
from fedlight.submodels.coverage import Coverage


@final
class ClientStatistic(Importance):
    """Mean of a per-entry statistic over all that a unit owns, over the clients that hold it, smoothed over rounds.

    In one round x_u = Σ_n Σ_i S_{n,i} / Σ_n K_n |{i}| over the entries i of unit u that client n covers, with S
    the sums that it returns and K its optimizer steps (1 for ``abs_change``). Then s_u ← decay · s_u +
    (1 - decay) · x_u for the units that somebody held; the others keep theirs. A unit that nobody has held yet
    counts as its group's mean, neither good nor bad. Before the first statistics come back, scores are those of
    :class:`Magnitude`.

    Clients need no extra pass. Costs the server one number per unit and round. For scores of single weights see
    :class:`EntryStatistic`.

    Args:
        name: ``abs_grad`` Σ|g|, ``sq_grad`` Σg², ``taylor`` Σ(g·θ)² (Molchanov et al. 2019, Importance Estimation for
            Neural Network Pruning, eq. 8, by entry), ``abs_change`` |θ_end - θ_start|.
        decay: weight of the past, in [0, 1).
        normalizer: ``mean``, ``max`` or ``sum``: what a group's scores are divided by, so that groups compare under a
            global scope; None leaves them.
        reduction: ``mean`` over a unit's entries; ``sum``: that times their number in the full model; ``first``: the
            same, of its rows in the group's first layer alone.
    """

    def __init__(
        self,
        name: StatisticName = "taylor",
        decay: float = 0.9,
        normalizer: Normalizer | None = "mean",
        reduction: Reduction = "mean",
    ) -> None:
        self.statistics = checked_name(name)
        self.name = name
        self.decay = checked_decay(decay)
        self.normalizer = normalizer
        self.reduction = reduction
        self._reducer = Reducer(reduction, normalizer)
        self._fallback = Magnitude(normalizer=normalizer)
        self._smoothed = torch.zeros(0, dtype=torch.float64)
        self._seen = torch.zeros(0, dtype=torch.bool)

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if not bool(self._seen.any()):
            return self._fallback.scores(state, client)
        means = self._smoothed.clone()
        for group in state.plan.groups:
            seen, of_group = self._seen[group.units], means[group.units]
            of_group[~seen] = of_group[seen].mean() if bool(seen.any()) else 1.0
        return self._reducer.normalize(self._reducer.of_means(state.plan.structure, means), state.plan.groups)

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round."""
        self._of_units = self._reducer.over(state.plan.structure)
        self._sums = torch.zeros(2, state.plan.num_units, dtype=torch.float64)  # of statistics, of steps
        self._device = next(iter(state.weights.values())).device

    def add(self, coverage: Coverage, update: Update) -> None:
        """Take in one client's statistics; none of them if their sums aren't finite."""
        sums = unit_sums(self._of_units, self.name, coverage, update)
        if sums is not None:
            self._sums += sums

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
