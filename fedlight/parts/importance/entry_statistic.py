"""Importance of single weights from what clients sum up while they train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.parts.importance.magnitude import Magnitude
from fedlight.parts.importance.returned import StatisticName, checked_decay, checked_name, num_draws
from fedlight.parts.importance.units import Normalizer, Reducer, Reduction
from fedlight.parts.sums import CoveredSum
from fedlight.submodels.coverage import Coverage, MaskCoverage

_UNSEEN = -1.0  # statistics are never negative


@final
class EntryStatistic(Importance):
    """Mean of a statistic at every single weight, over the clients that measured it, smoothed over rounds.

    In one round x_i = Σ_n S_{n,i} / Σ_n K_n over the clients n that measured entry i, and s_i ← decay · s_i +
    (1 - decay) · x_i. Gradients are measured at masked weights too (the gradient of the masked network with respect to
    all weights), which is what lets them grow back; ``taylor`` and ``abs_change`` are 0 there by definition, so masked
    weights keep what they last had. An entry that nobody has measured counts as its tensor's mean. Before the first
    statistics come back, and for tensors that aren't trained, scores are |θ|.

    Costs the server a float32 per weight, in checkpoints too, and two float64 per weight within a round. Clients send a
    number per weight more, which the byte counts leave out (:class:`~fedlight.parts.NoCompression`).

    Args:
        name: ``abs_grad`` Σ|g|, ``sq_grad`` Σg², ``taylor`` Σ(g·θ)², ``abs_change`` |θ_end - θ_start|.
        decay: weight of the past, in [0, 1).
        normalizer: for scores of units: ``mean``, ``max``, ``sum`` or None, see :class:`ClientStatistic`.
        reduction: for scores of units: ``mean``, ``sum`` or ``first``.
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
        self._sum = CoveredSum()
        self._smoothed: State = {}

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if not self._smoothed:
            return self._fallback.scores(state, client)
        known = self._known()
        return self._reducer.normalize(self._reducer.reduce(state.plan.structure, known.get), state.plan.groups)

    def entries(self, state: RoundState, client: int) -> State:
        """Return the smoothed statistics, |θ| where there are none."""
        known = self._known()
        return {
            name: known.get(name, value).to(value.device)
            for name, value in self._fallback.entries(state, client).items()
        }

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round."""
        self._plain = MaskCoverage(state.plan.structure, {})
        self._is_dense = self.name in ("abs_grad", "sq_grad")
        self._sum.begin({name: value for name, value in state.weights.items() if value.is_floating_point()}, jobs)

    def add(self, coverage: Coverage, update: Update) -> None:
        """Take in one client's statistics."""
        values, steps = update.statistics.get(self.name, {}), num_draws(self.name, update)
        if steps > 0:
            measured = self._plain if coverage.masks is not None and self._is_dense else coverage
            self._sum.add(measured, values, float(steps), 1.0 / steps)

    def finish(self, reduce: Reduce) -> None:
        """Close the round and smooth."""
        for name, total, count in self._sum.finish(reduce):
            old = self._smoothed.get(name)
            old = torch.full(total.shape, _UNSEEN, dtype=torch.float32, device=total.device) if old is None else old
            old, news = old.to(total.device), total / count.clamp(min=1.0)
            mixed = torch.where(old < 0, news, self.decay * old + (1 - self.decay) * news)
            self._smoothed[name] = torch.where(count > 0, mixed.to(torch.float32), old)

    def state_dict(self) -> dict[str, Any]:
        """Return the smoothed statistics; -1 where nobody has measured."""
        return {"smoothed": {name: value.clone() for name, value in self._smoothed.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._smoothed = {name: value.clone() for name, value in state["smoothed"].items()}

    def _known(self) -> State:
        """Return a statistic for every entry of the tensors that somebody has measured."""
        return {name: _filled(value) for name, value in self._smoothed.items()}


def _filled(value: Tensor) -> Tensor:
    """Put the mean of what was measured where nobody has measured."""
    unseen = value < 0
    if not bool(unseen.any()):
        return value
    return torch.where(unseen, value[~unseen].mean() if not bool(unseen.all()) else 1.0, value)
