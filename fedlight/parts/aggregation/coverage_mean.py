"""The mean over the clients that hold an entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import final

from torch import Tensor

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.parts.aggregation.scaling import checked_norm, mean_, scale_to
from fedlight.parts.sums import CoveredSum, RowSum
from fedlight.submodels.coverage import Coverage


@final
class CoverageMean(Aggregation):
    """Mean over the clients that cover an entry: U = Σ a m Δ / Σ a m where Σ a m > 0, and 0 elsewhere.

    m is 1 on the entries that a client's submodel holds, a its weight (Diao et al. 2021, HeteroFL, §3). Float
    buffers that travel (running statistics of normalisation layers) are merged in the same way. At ratio 0
    everywhere this is FedAvg's mean.

    Args:
        update_norm: scale every client's Δ to this L2 norm first (Γ of Xu et al. 2021, CGSV); None: as it comes back.
        label_rows: m is 1 only in the rows of a client's own labels, in the tensors of one row per output of the model
            (``SubmodelPlan.output_rows``); of a client whose loss was not masked to its labels in all rows. The label
            split of HeteroFL's code: rows of labels that nobody has don't move.
    """

    def __init__(self, update_norm: float | None = None, label_rows: bool = False) -> None:
        self.update_norm = checked_norm(update_norm)
        self.label_rows = label_rows
        self._sum = CoveredSum()
        self._row_sum = RowSum()
        self._by_row: frozenset[str] = frozenset()
        self._like: Mapping[str, Tensor] = {}

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._like = state.weights
        self._sum.begin(state.weights, jobs)
        self._by_row = frozenset(state.plan.output_rows) if self.label_rows else frozenset()
        self._row_sum.begin({name: state.weights[name] for name in self._by_row}, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        scale = scale_to(update, self.update_norm)
        by_row = {name: value for name, value in update.delta.items() if name in self._by_row}
        others = {name: value for name, value in update.delta.items() if name not in self._by_row}
        self._row_sum.add(coverage, by_row, weight, scale, update.labels)
        self._sum.add(coverage, others, weight, scale)
        self._sum.add(coverage, update.buffers, weight)

    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights; empty if no process had an update."""
        sums = chain(self._sum.finish(reduce), self._row_sum.finish(reduce))
        return {name: mean_(total, count).to(self._like[name].dtype) for name, total, count in sums}
