"""One map for all clients, whose size is searched for: PruneFL's extraction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from fedlight.core.slots import Extraction, Importance, Part, Scores
from fedlight.core.types import RoundState, State
from fedlight.errors import ConfigError
from fedlight.parts.extraction.greedy import greedy_set, protect, protected_share
from fedlight.parts.extraction.masks import Kernels, Masks, maskable, masked_cost, on_device, unpack_bits, unpack_masks
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import ChannelCoverage, Coverage, MaskCoverage
from fedlight.submodels.structure import Cost, Structure


@dataclass(frozen=True)
class RoundTime:
    """Seconds of a client's round: fixed_s + s_per_mac · cost.macs + s_per_byte · cost.num_bytes."""

    fixed_s: float
    s_per_mac: float
    s_per_byte: float

    def of(self, cost: Cost) -> float:
        """Return the seconds of a submodel."""
        return self.fixed_s + self.s_per_mac * cost.macs + self.s_per_byte * cost.num_bytes


@final
class SizeSearch(Extraction):
    """All clients share one map, revised by :func:`~fedlight.parts.extraction.greedy.greedy_set`.

    Δ and T start with what is protected, and Δ with all that is never pruned (biases, for channels the output layer's).
    Weights: t_l of a weight of layer l is s_per_byte · 4 (what a bitmap adds) plus, with sparse kernels, s_per_mac ·
    its MACs. Channels: a unit's gain is Σ g² over all entries that it owns, its time what a round loses without it; an
    entry between two groups counts for both in gain and in time.

    Stage 1 lasts ``initial_rounds`` at most, is revised every ``initial_every`` rounds, and ends when the size has
    changed by ``tolerance`` or less in five revisions in a row, the first of which compares with the full size. From
    then on it is revised every ``every`` rounds.

    Args:
        structured: whole channels instead of single weights.
        initial_rounds: most rounds of stage 1; 0: none.
        initial_every: rounds between two revisions in stage 1.
        every: rounds between two revisions after it.
        prunable: ρ_0, share of the kept entries that the first revisions may prune; the others are protected.
        half_life: H, rounds in which that share halves.
        tolerance: relative change of the size that counts as none.
        kernels: ``sparse``: masked weights cost no MACs; ``dense``: they do.
    """

    shared = True
    needs_entries = True  # for channels too: Δ starts with what is never pruned

    def __init__(
        self,
        structured: bool = False,
        initial_rounds: int = 10,
        initial_every: int = 1,
        every: int = 50,
        prunable: float = 0.3,
        half_life: float = 10_000.0,
        tolerance: float = 0.1,
        kernels: Kernels = "sparse",
    ) -> None:
        if initial_rounds < 0:
            raise ConfigError(f"initial_rounds={initial_rounds} is no number of rounds: use 0 or more")
        for key, value in (("initial_every", initial_every), ("prune_every", every)):
            if value < 1:
                raise ConfigError(f"{key}={value} is no number of rounds between prunings: use 1 or more")
        if not 0.0 < prunable <= 1.0:
            raise ConfigError(f"prunable={prunable} is outside (0, 1]: it is the share of what is kept that may go")
        if not half_life > 0:
            raise ConfigError(f"half_life={half_life} is no number of rounds: use more than 0")
        if not tolerance >= 0:
            raise ConfigError(f"tolerance={tolerance} is negative: use 0 or more")
        if kernels not in ("dense", "sparse"):
            raise ConfigError(f"kernels={kernels!r} is not one of 'dense', 'sparse'")
        self.structured = structured
        self.initial_rounds = initial_rounds
        self.initial_every = initial_every
        self.every = every
        self.prunable = prunable
        self.half_life = half_life
        self.tolerance = tolerance
        self.kernels: Kernels = kernels
        self.ratio = 0.0
        self._map: Tensor | None = None  # bits of the units or of the masks; None: everything
        self._sizes: list[float] = []  # share kept after each revision of stage 1
        self._start: int | None = None  # first round after stage 1, once it has settled
        self._clients: set[int] = set()

    @classmethod
    def among(cls, parts: Mapping[str, Part], asker: Part) -> SizeSearch:
        """Return the algorithm's extraction; raises ConfigError if it is another kind."""
        extraction = parts["extraction"]
        if not isinstance(extraction, cls):
            raise ConfigError(
                f"{type(asker).__name__} works with extraction SizeSearch, not {type(extraction).__name__}: choose both"
            )
        return extraction

    def is_initial(self, round_idx: int) -> bool:
        """Return whether a round belongs to stage 1."""
        return round_idx < (self.initial_rounds if self._start is None else self._start)

    def is_due(self, round_idx: int) -> bool:
        """Return whether the map is revised before this round's clients train."""
        start = self.initial_rounds if self._start is None else self._start
        if round_idx < start or (round_idx == start and self._start is None):
            return round_idx > 0 and round_idx % self.initial_every == 0
        return round_idx > start and (round_idx - start) % self.every == 0

    @torch.no_grad()
    def revise(self, state: RoundState, scores: Scores, time: RoundTime, sizes: Importance) -> None:
        """Search for the map that lowers the loss most per second.

        Args:
            state: the round.
            scores: g².
            time: what a round takes.
            sizes: by whose scores kept entries are protected.
        """
        prunable = protected_share(state.round_idx, self.prunable, self.half_life)
        kept = self._revise_units if self.structured else self._revise_weights
        flags = kept(state, scores, time, Scores.of(sizes, state, -1), prunable)
        self._map = torch.from_numpy(np.packbits(flags.cpu().numpy()))
        share = float(flags.double().mean())
        self.ratio = 1.0 - share
        if self.is_initial(state.round_idx):
            self._sizes.append(share)
            recent = [1.0, *self._sizes][-6:]
            still = [abs(now / before - 1.0) <= self.tolerance for before, now in pairwise(recent)]
            if len(still) == 5 and all(still):
                self._start = state.round_idx + 1

    def cost(self, plan: SubmodelPlan, ratio: float) -> Cost:
        """Return the cost of the map that all share, whatever the ratio."""
        return self.cost_of(plan, self._coverage(plan))

    def cost_of(self, plan: SubmodelPlan, coverage: Coverage) -> Cost:
        """Return the exact cost of a map."""
        if self.structured:
            return plan.cost(coverage.keep)
        masks = coverage.masks or {}
        return masked_cost(plan, {name: int(mask.sum()) for name, mask in masks.items()}, self.kernels)

    def extract(self, state: RoundState, client: int, ratio: float, scores: Scores) -> Coverage:
        """Return the map that all share."""
        self._clients.add(client)
        if self.structured or self._map is None:
            return self._coverage(state.plan)
        return MaskCoverage(state.plan.structure, on_device(unpack_masks(self._map, state.plan), state.weights))

    def last(self, plan: SubmodelPlan, client: int) -> Coverage | None:
        """Return the map that all share, None for a client that never took part."""
        return self._coverage(plan) if client in self._clients else None

    def forget(self, clients: Sequence[int]) -> None:
        """Drop that these clients took part."""
        self._clients.difference_update(clients)

    def state_dict(self) -> dict[str, Any]:
        """Return the map, one bit per entry, and where the search stands."""
        return {
            "map": torch.zeros(0, dtype=torch.uint8) if self._map is None else self._map.clone(),
            "ratio": self.ratio,
            "sizes": list(self._sizes),
            "start": self._start,
            "clients": sorted(self._clients),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._map = state["map"].clone() if len(state["map"]) else None
        self.ratio, self._sizes, self._start = state["ratio"], list(state["sizes"]), state["start"]
        self._clients = set(state["clients"])

    def metrics(self) -> dict[str, float]:
        """Return the share of the prunable entries that is kept."""
        return {"search/density": 1.0 - self.ratio}

    def _coverage(self, plan: SubmodelPlan) -> Coverage:
        if self.structured:
            keep = torch.ones(plan.num_units, dtype=torch.bool)
            return ChannelCoverage(plan.structure, keep if self._map is None else self._unpacked_units(plan))
        return MaskCoverage(plan.structure, {} if self._map is None else unpack_masks(self._map, plan))

    def _unpacked_units(self, plan: SubmodelPlan) -> Tensor:
        assert self._map is not None  # noqa: S101 - asked only then
        return unpack_bits(self._map, plan.num_units, "units")

    def _revise_weights(
        self, state: RoundState, scores: Scores, time: RoundTime, sizes: Scores, prunable: float
    ) -> Tensor:
        plan, gains, magnitudes = state.plan, scores.entries(), sizes.entries()
        shapes = maskable(plan)
        ones = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
        kept: Masks = ones if self._map is None else unpack_masks(self._map, plan)
        per_entry = plan.costs.macs_per_entry if self.kernels == "sparse" else {}
        safe, spent_s, seconds = [], 0.0, []
        for name in shapes:
            held = kept[name].flatten()
            each_s = 4 * time.s_per_byte + time.s_per_mac * per_entry.get(name, 0.0)
            safe.append(protect(magnitudes[name].flatten().cpu(), held, prunable))
            seconds.append(torch.full(held.shape, each_s, dtype=torch.float64))
            spent_s += each_s * int(held.sum())
        gain = torch.cat([gains[name].flatten() for name in shapes]).to("cpu", torch.float64)
        others = sum(float(value.sum(dtype=torch.float64)) for name, value in gains.items() if name not in shapes)
        flags, times_s = torch.cat(safe), torch.cat(seconds)
        rest_s = time.of(masked_cost(plan, {n: int(m.sum()) for n, m in kept.items()}, self.kernels)) - spent_s
        start_s = max(rest_s, 0.0) + float(times_s[flags].sum())
        chosen = greedy_set(gain[~flags], times_s[~flags], others + float(gain[flags].sum()), start_s)
        flags[~flags] = chosen
        self._keep_one(flags, gain, [math.prod(shape) for shape in shapes.values()])
        return flags

    def _revise_units(
        self, state: RoundState, scores: Scores, time: RoundTime, sizes: Scores, prunable: float
    ) -> Tensor:
        plan, gain = state.plan, scores.units().to("cpu", torch.float64)
        full = torch.ones(plan.num_units, dtype=torch.bool)
        kept = full if self._map is None else self._unpacked_units(plan)
        magnitudes, flags, times_s = sizes.units(), torch.zeros_like(full), torch.zeros_like(gain)
        counts = [int(kept[group.units].sum()) for group in plan.groups]
        now_s = time.of(plan.costs.cost_of_counts(counts))
        for index, group in enumerate(plan.groups):
            fewer = [count - (at == index) for at, count in enumerate(counts)]
            times_s[group.units] = max(0.0, now_s - time.of(plan.costs.cost_of_counts(fewer)))
            flags[group.units] = protect(magnitudes[group.units], kept[group.units], prunable)
        start_s = time.of(plan.costs.cost_of_counts([0] * len(counts))) + float(times_s[flags].sum())
        others = _never_pruned(scores.entries(), plan.structure)
        chosen = greedy_set(gain[~flags], times_s[~flags], others + float(gain[flags].sum()), start_s)
        flags[~flags] = chosen
        self._keep_one(flags, gain, [group.size for group in plan.groups])
        return flags

    def _keep_one(self, flags: Tensor, gain: Tensor, sizes: list[int]) -> None:
        """Keep the best entry of a layer that would be emptied."""
        for part, gains in zip(flags.split_with_sizes(sizes), gain.split_with_sizes(sizes), strict=True):
            if not bool(part.any()):
                part[int(gains.argmax())] = True


def _never_pruned(gains: State, structure: Structure) -> float:
    """Return Σ g² over the entries that no unit owns."""
    total = 0.0
    for name, gain in gains.items():
        free = torch.ones_like(gain, dtype=torch.bool)
        for dim, owners in enumerate(structure.axes.get(name, ())):
            if owners is not None:
                shape = [-1 if at == dim else 1 for at in range(gain.dim())]
                free &= (owners < 0).to(gain.device).reshape(shape)
        total += float(gain[free].sum(dtype=torch.float64))
    return total
