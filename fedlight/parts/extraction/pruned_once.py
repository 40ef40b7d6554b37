"""FedAP's pruning: one map for all, drawn once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlight.core.slots import Extraction, Scores
from fedlight.core.types import RoundState
from fedlight.parts.extraction.masks import pack_bits, unpack_bits
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import ChannelCoverage, Coverage
from fedlight.submodels.keep import kept_counts
from fedlight.submodels.structure import Cost, Group


@final
class PrunedOnce(Extraction):
    """The same filters for every client, chosen when the first client gets a ratio above 0, and kept for good.

    Of all R weights the ⌊R · ratio⌋-th smallest |w| is the threshold V; a convolution of which a share p of the weights
    lies below V loses ⌊p · d⌋ of its d filters, those of the lowest scores (Zhang et al. 2022, FedAP, steps 3 and 4).
    Layers whose channels must agree are one: p is over all their filters. One filter of each stays. What isn't made
    of two-dimensional convolutions (hidden units, heads) stays whole, as in the paper.
    """

    shared = True

    def __init__(self) -> None:
        self._keep: Tensor | None = None  # packed

    def cost(self, plan: SubmodelPlan, ratio: float) -> Cost:
        """Return the cost at a ratio; before the map is drawn as if every group lost the ratio."""
        if ratio == 0.0 or self._keep is None:
            return plan.costs.cost_of_counts(kept_counts(plan.groups, ratio, round_to=1))
        return plan.cost(unpack_bits(self._keep, plan.num_units, "units"))

    def cost_of(self, plan: SubmodelPlan, coverage: Coverage) -> Cost:
        """Return the exact cost of the submodel."""
        return plan.cost(coverage.keep)

    def extract(self, state: RoundState, client: int, ratio: float, scores: Scores) -> Coverage:
        """Return everything at ratio 0, and the common map at any other."""
        plan = state.plan
        if ratio == 0.0:
            return ChannelCoverage(plan.structure, torch.ones(plan.num_units, dtype=torch.bool))
        if self._keep is None:
            ratios = threshold_ratios(plan, state.weights, ratio)
            self._keep = pack_bits(plan.keep(scores.units(), ratios, round_to=1))
        return ChannelCoverage(plan.structure, unpack_bits(self._keep, plan.num_units, "units"))

    def last(self, plan: SubmodelPlan, client: int) -> Coverage | None:
        """Return the common map, None before it is drawn."""
        if self._keep is None:
            return None
        return ChannelCoverage(plan.structure, unpack_bits(self._keep, plan.num_units, "units"))

    def state_dict(self) -> dict[str, Any]:
        """Return the map, one bit per unit; empty before it is drawn."""
        return {"keep": torch.zeros(0, dtype=torch.uint8) if self._keep is None else self._keep}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the map."""
        self._keep = state["keep"].clone() if len(state["keep"]) else None


def filters(group: Group, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the names of the two-dimensional convolutions' weights whose filters are the group's units."""
    return [name for name, dim in group.tensors if dim == 0 and len(shapes[name]) == 4]


@torch.no_grad()
def threshold_ratios(plan: SubmodelPlan, weights: Mapping[str, Tensor], ratio: float) -> npt.NDArray[np.float64]:
    """Return ⌊p · d⌋ / d of every group, below 1; 0 for a group without filters of two-dimensional convolutions.

    Args:
        plan: groups and shapes.
        weights: global state dict; tensors of two dims or more are the R weights.
        ratio: in [0, 1).
    """
    sizes = torch.cat([value.abs().flatten() for value in weights.values() if value.dim() > 1])
    rank = int(len(sizes) * ratio)
    threshold = sizes.kthvalue(rank).values if rank else sizes.new_zeros(())
    ratios = []
    for group in plan.groups:
        own = [weights[name].abs().flatten() for name in filters(group, plan.structure.shapes)]
        share = float((torch.cat(own) < threshold).double().mean()) if own else 0.0
        ratios.append(min(int(share * group.size), group.size - 1) / group.size)
    return np.array(ratios, dtype=np.float64)
