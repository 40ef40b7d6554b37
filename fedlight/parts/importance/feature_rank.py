"""Importance from what filters do on the server's data."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from fedlight.core.slots import Importance
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.submodels import SubmodelPlan


@final
class FeatureRank(Importance):
    """Mean rank of a filter's feature maps over images that the server holds: HRank (Lin et al. 2020, equation 7).

    A feature map [height, width] is a layer's output for one image, cut off at 0 as the ReLU after it does: behind the
    normalisation where the group has such layers, else behind the convolution. A channel that several layers share
    scores the mean over them. Units without feature maps (hidden units, heads) score 0. Takes ``max_examples`` forward
    passes on the server and one singular value decomposition per image and channel, once a round in which it is asked.

    Args:
        max_examples: images, >= 1; all of the server's if it holds fewer.

    Raises:
        ConfigError: no image.
    """

    needs_server_data = True

    def __init__(self, max_examples: int = 64) -> None:
        if max_examples < 1:
            raise ConfigError(f"max_examples={max_examples} of FeatureRank is no image: use 1 or more")
        self.max_examples = max_examples
        self._plan: SubmodelPlan | None = None
        self._round_idx = -1
        self._scores = torch.zeros(0)

    def scores(self, state: RoundState, client: int) -> Tensor:
        """Return the same float64[num_units] for every client."""
        if state.plan is not self._plan or state.round_idx != self._round_idx:
            self._plan, self._round_idx, self._scores = state.plan, state.round_idx, self._of(state)
        return self._scores

    @torch.no_grad()
    def _of(self, state: RoundState) -> Tensor:
        axes = _watched(state.plan)
        totals = {name: torch.zeros(len(axis), dtype=torch.float64) for name, axis in axes.items()}
        seen = dict.fromkeys(axes, 0)

        def look(name: str, output: Tensor) -> None:
            ranks = torch.linalg.matrix_rank(output.clamp(min=0))
            totals[name] += ranks.sum(0, dtype=torch.float64).cpu()
            seen[name] += len(output)

        if state.desk is not None and axes:
            state.desk.watch(state.weights, axes, look, self.max_examples)
        sums, counts = (torch.zeros(state.plan.num_units, dtype=torch.float64) for _ in range(2))
        for name, axis in axes.items():
            owned = axis >= 0
            sums.index_add_(0, axis[owned], totals[name][owned] / max(1, seen[name]))
            counts.index_add_(0, axis[owned], torch.ones(int(owned.sum()), dtype=torch.float64))
        scores = sums / counts.clamp(min=1)
        return scores if state.desk is None else state.desk.agreed(scores)


def _watched(plan: SubmodelPlan) -> dict[str, Tensor]:
    """Return the layers whose outputs are feature maps, with the unit of each of their channels."""
    structure, found = plan.structure, {}
    for group in plan.groups:
        rows = [name for name, dim in group.tensors if dim == 0 and name.endswith(".weight")]
        if not any(len(structure.shapes[name]) == 4 for name in rows):
            continue
        norms = [name for name in rows if len(structure.shapes[name]) == 1]
        for name in norms or [name for name in rows if len(structure.shapes[name]) == 4]:
            axis = structure.axes[name][0]
            if axis is not None:
                found[name.removesuffix(".weight")] = axis
    return found
