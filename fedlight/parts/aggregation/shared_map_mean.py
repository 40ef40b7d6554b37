"""The mean under one map for all, after which the global model is pruned too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Aggregation
from fedlight.core.types import Job, Reduce, RoundState, State, Update
from fedlight.parts.aggregation.coverage_mean import CoverageMean
from fedlight.submodels.coverage import Coverage


@final
class SharedMapMean(Aggregation):
    """:class:`CoverageMean`, and U = -θ on what no map of the round holds: the global model is the submodel.

    Masked weights become 0, so the global model that is evaluated is θ · m, and a weight that comes back starts at 0.
    Of a removed channel only what reads from it becomes 0 (its columns in the next layers): the model computes what
    the submodel does, and where the channel comes back it adds nothing at first but has a gradient. Exact under the
    default server step, SGD with lr 1.
    """

    def __init__(self) -> None:
        self._mean = CoverageMean()
        self._weights: Mapping[str, Tensor] = {}
        self._held: dict[str, Tensor] = {}

    def begin(self, state: RoundState, jobs: Sequence[Job]) -> None:
        """Start a round; ``jobs`` are those of all processes."""
        self._mean.begin(state, jobs)
        self._weights, self._held = state.weights, _held(state, jobs)

    def add(self, coverage: Coverage, update: Update, weight: float) -> None:
        """Take in one update with its weight (> 0, not normalised)."""
        self._mean.add(coverage, update, weight)

    @torch.no_grad()
    def finish(self, reduce: Reduce) -> State:
        """Return U in full shape and in the dtype of the weights."""
        merged = self._mean.finish(reduce)
        for name, held in self._held.items():
            theta = self._weights[name]
            merged[name] = torch.where(held.to(theta.device), merged.get(name, torch.zeros_like(theta)), -theta)
        return merged


def _held(state: RoundState, jobs: Sequence[Job]) -> dict[str, Tensor]:
    """Return, for the tensors that the round's maps cut, what at least one of them reads."""
    if not jobs or any(job.coverage.is_full for job in jobs):
        return {}
    first = jobs[0].coverage
    if first.masks is not None:
        names = set(first.masks).intersection(*(job.coverage.masks or {} for job in jobs))
        every = {name: [job.coverage.masks[name] for job in jobs if job.coverage.masks] for name in sorted(names)}
        return {name: torch.stack(masks).any(0) for name, masks in every.items()}
    keep = torch.stack([job.coverage.keep for job in jobs]).any(0)
    keep = torch.cat([keep, torch.ones(1, dtype=torch.bool)])  # owner -1 finds the last: always kept
    held = {}
    for name, axes in state.plan.structure.axes.items():
        columns = torch.ones((1,) * len(axes), dtype=torch.bool)
        for dim, axis in enumerate(axes):
            if dim > 0 and axis is not None:
                columns = columns & keep[axis].view([1] * dim + [-1] + [1] * (len(axes) - dim - 1))
        if not bool(columns.all()):
            held[name] = columns.expand(state.plan.structure.shapes[name])
    return held
