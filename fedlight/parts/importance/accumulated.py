"""Importance from squared gradients, piled up until they are used: PruneFL's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.parts.importance.units import UnitSums
from fedlight.parts.sums import CoveredSum
from fedlight.submodels.coverage import Coverage, MaskCoverage


@final
class AccumulatedSquares(Importance):
    """g_i² = Σ n (Σ_steps g_i)² / Σ n over the clients and rounds since the scores were last used.

    n is the number of a client's examples. As PruneFL's code does it: the gradients of a round are summed up before
    they are squared, at masked weights too (the gradient of the masked network with respect to all weights). Dividing
    by Σ n changes nothing there, where every client measures every weight, and lets units of unequal coverage compare.
    What nobody has measured since keeps its last value, 0 at first; biases and norms have scores like weights.

    A unit's score is the sum over all entries that it owns. Costs the server two float32 per weight, in checkpoints
    too.
    """

    statistics = frozenset({"sum_grad"})

    def __init__(self) -> None:
        self._sum = CoveredSum()
        self._totals: State = {}  # Σ n U², Σ n since the last use
        self._counts: State = {}
        self._last: State = {}  # means at the last use
        self._used_in = -1

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return float64[num_units]; what comes back from this round on is piled up anew."""
        means = self.entries(state, client)
        return UnitSums(state.plan.structure)(means.get)

    def entries(self, state: RoundState, client: int) -> State:
        """Return g² for every trainable tensor; what comes back from this round on is piled up anew."""
        self._used_in = state.round_idx
        zeros = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in state.weights.items()}
        return {name: self._mean(name, zero) for name, zero in zeros.items()}

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; if this round's maps used the scores, the pile starts anew."""
        if self._used_in == state.round_idx and self._totals:
            like = {name: state.weights[name] for name in self._totals}
            self._last = {name: self._mean(name, torch.zeros_like(value)) for name, value in like.items()}
            self._totals, self._counts = {}, {}
        self._plain = MaskCoverage(state.plan.structure, {})
        masked = any(job.coverage.masks for job in jobs)
        self._sum.begin(
            {name: value for name, value in state.weights.items() if value.is_floating_point()}, [] if masked else jobs
        )

    def add(self, coverage: Coverage, update: Update) -> None:
        """Take in one client's summed gradients."""
        values = {name: value.square() for name, value in update.statistics.get("sum_grad", {}).items()}
        if all(bool(torch.isfinite(value).all()) for value in values.values()):
            self._sum.add(self._plain if coverage.masks is not None else coverage, values, float(update.num_examples))

    def finish(self, reduce: Reduce) -> None:
        """Pile up the round."""
        for name, total, count in self._sum.finish(reduce):
            total, count = total.to(torch.float32), count.to(torch.float32, copy=True)
            if name in self._totals:
                self._totals[name] = self._totals[name].to(total.device) + total
                self._counts[name] = self._counts[name].to(total.device) + count
            else:
                self._totals[name], self._counts[name] = total, count

    def state_dict(self) -> dict[str, Any]:
        """Return the pile and the means at its last use."""
        piles = {"totals": self._totals, "counts": self._counts, "last": self._last}
        return {key: {name: value.clone() for name, value in pile.items()} for key, pile in piles.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._totals, self._counts, self._last = (
            {name: value.clone() for name, value in state[key].items()} for key in ("totals", "counts", "last")
        )

    def _mean(self, name: str, zero: Tensor) -> Tensor:
        last = self._last.get(name, zero).to(zero.device)
        if name not in self._totals:
            return last
        total, count = self._totals[name].to(zero.device), self._counts[name].to(zero.device)
        return torch.where(count > 0, total / count.clamp(min=1.0), last)
