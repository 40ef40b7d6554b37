"""Structured submodels: a physically smaller network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlight.core.slots import Extraction, Part, Scores
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.extraction.layer_ratios import LayerRatios, densities
from fedlight.parts.extraction.masks import pack_bits, unpack_bits
from fedlight.parts.extraction.pruning_schedule import Exchange, PruningSchedule, shielded
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import ChannelCoverage, Coverage
from fedlight.submodels.keep import Ratio, check_counts, kept_counts
from fedlight.submodels.structure import Cost, Group

Scope = Literal["layer", "global"]

_EPS = 1e-9  # 10 * (1 - 0.9) is 0.9999999999999998, and one unit is meant


@final
class Channels(Extraction):
    """A physically smaller network: whole channels, heads and hidden units, those with the highest scores.

    A client's map is revised at pruning rounds, t ≡ 0 mod ``every`` up to ``until``, and whenever its ratio changes;
    otherwise it keeps its map. A revision that isn't due to a pruning round exchanges nothing: it only drops the least
    important kept units, or adds the most important others. At a pruning round, ``exchange`` says how much may change:

    - ``all``: the map is drawn anew;
    - ``cosine``: at most a share p_t = ½ (1 + cos(π t / until)) of each group's kept units, the least important ones,
      give way to more important others, so maps settle. Where the importance has ``growth`` scores they decide what
      comes (:func:`~fedlight.parts.extraction.pruning_schedule.shielded`).

    Args:
        scope: ``layer``: every group loses the ratio, or what ``layers`` gives it; ``global``: units of all groups
            compete.
        round_to: kept counts are multiples of this where a group is large enough; 1 for exact counts.
        min_units: units that every group keeps at least.
        every: rounds between two prunings (ΔT).
        until: last round that prunes (T_end), counted from 0; None: never stop.
        exchange: ``all`` or ``cosine``; the latter needs ``until``.
        rounding: ``nearest``, by ``round_to``, or ``floor``: max(min_units, ⌊size · (1 - ratio)⌋) units of each group,
            as FedMP's authors and Torch-Pruning count; needs the ``layer`` scope and ``round_to=1``.
        exchange_share: p_0 of the cosine exchange, in (0, 1].
        layers: how the ratio is spread over the groups, before counts are rounded; None: the same for all.
    """

    def __init__(
        self,
        scope: Scope = "layer",
        round_to: int = 8,
        min_units: int = 1,
        every: int = 1,
        until: int | None = None,
        exchange: Exchange = "all",
        rounding: Literal["nearest", "floor"] = "nearest",
        exchange_share: float = 1.0,
        layers: LayerRatios | None = None,
    ) -> None:
        if scope not in ("layer", "global"):
            raise ConfigError(f"scope={scope!r} is not a pruning scope: use 'layer' or 'global'")
        if rounding not in ("nearest", "floor"):
            raise ConfigError(f"rounding={rounding!r} is not one of 'nearest', 'floor'")
        if rounding == "floor" and (scope != "layer" or round_to != 1):
            raise ConfigError(f"rounding='floor' counts exactly: it needs round_to=1 (is {round_to}) and scope='layer'")
        if layers is not None and (scope == "global" or rounding == "floor"):
            raise ConfigError(
                f"layers spreads the ratio over groups: it needs scope='layer' (is {scope!r}) and rounding='nearest'"
            )
        check_counts(round_to, min_units)
        self.schedule = PruningSchedule(every, until, exchange, exchange_share)
        self.scope: Scope = scope
        self.round_to = round_to
        self.min_units = min_units
        self.rounding = rounding
        self.layers = layers
        self._means: list[float] = []  # by group, of the scores that were drawn by last
        self._maps: dict[int, tuple[float, Tensor]] = {}  # client: (ratio, packed keep)
        self._costs: dict[float, Cost] = {}
        self._priced: SubmodelPlan | None = None

    def meet(self, parts: Mapping[str, Part]) -> None:
        """Raise ConfigError if ``layers`` learns from scores that are normalised by group, so all alike."""
        importance = getattr(parts["importance"], "common", parts["importance"])
        normalizer = getattr(importance, "normalizer", None)
        if self.layers is not None and self.layers.learns and normalizer is not None:
            raise ConfigError(
                f"extraction: layers={type(self.layers).__name__} learns nothing from {type(importance).__name__} with "
                f"normalizer={normalizer!r}, which makes all layers alike: set its normalizer to null"
            )

    def cost(self, plan: SubmodelPlan, ratio: float) -> Cost:
        """Return the cost at a ratio; exact in the ``layer`` scope, priced as if layer-wise in the ``global`` one."""
        if plan is not self._priced:
            self._priced, self._costs = plan, {}
        if ratio not in self._costs:
            counts = kept_counts(plan.groups, self._per_group(plan, ratio), self.round_to, self.min_units)
            self._costs[ratio] = plan.costs.cost_of_counts(counts)
        return self._costs[ratio]

    def cost_of(self, plan: SubmodelPlan, coverage: Coverage) -> Cost:
        """Return the exact cost of one client's submodel."""
        return plan.cost(coverage.keep)

    def extract(self, state: RoundState, client: int, ratio: float, scores: Scores) -> Coverage:
        """Return the client's map for this round."""
        plan = state.plan
        old_ratio, packed = self._maps.get(client, (None, None))
        old = None if packed is None else unpack_bits(packed, plan.num_units, "units")
        share = self.schedule.share(state.round_idx)
        if old is not None and ratio == old_ratio and share == 0.0:
            return ChannelCoverage(plan.structure, old)
        if ratio == 0.0:
            keep = torch.ones(plan.num_units, dtype=torch.bool)
        else:
            keep = self._draw(plan, ratio, scores, None if share == 1.0 else old, share)
        self._maps[client] = (ratio, pack_bits(keep))
        return ChannelCoverage(plan.structure, keep)

    def last(self, plan: SubmodelPlan, client: int) -> Coverage | None:
        """Return the client's last map, None if it never had one."""
        if client not in self._maps:
            return None
        return ChannelCoverage(plan.structure, unpack_bits(self._maps[client][1], plan.num_units, "units"))

    def forget(self, clients: Sequence[int]) -> None:
        """Drop these clients' maps."""
        for client in clients:
            self._maps.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """Return every client's ratio and map, one bit per unit."""
        clients = sorted(self._maps)
        maps = [self._maps[client][1] for client in clients]
        return {
            "clients": torch.tensor(clients, dtype=torch.int64),
            "ratios": torch.tensor([self._maps[client][0] for client in clients], dtype=torch.float64),
            "maps": torch.stack(maps) if maps else torch.zeros(0, 0, dtype=torch.uint8),
            "means": list(self._means),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back ratios and maps."""
        rows = zip(state["clients"].tolist(), state["ratios"].tolist(), state["maps"], strict=True)
        self._maps = {client: (ratio, packed.clone()) for client, ratio, packed in rows}
        self._means, self._costs = list(state["means"]), {}

    def _draw(self, plan: SubmodelPlan, ratio: float, scores: Scores, old: Tensor | None, share: float) -> Tensor:
        values = scores.units()
        if self.layers is not None and self.layers.learns:
            self._means, self._costs = [float(values[group.units].mean()) for group in plan.groups], {}
        if old is not None:
            growth = None if scores.growth is None else scores.growth.units()
            spans = [group.units for group in plan.groups] if self.scope == "layer" else [slice(0, plan.num_units)]
            come = [None if growth is None else growth[span] for span in spans]
            parts = [shielded(values[span], old[span], share, grown) for span, grown in zip(spans, come, strict=True)]
            values = torch.cat(parts) if parts else values
        per_group = self._per_group(plan, ratio)
        return plan.keep(values, per_group, scope=self.scope, round_to=self.round_to, min_units=self.min_units)

    def _per_group(self, plan: SubmodelPlan, ratio: float) -> Ratio:
        """Return the ratio, that of each group by ``layers``, or by ``floor`` (⌊size · (1 - ratio)⌋ units stay)."""
        if self.layers is not None and ratio > 0.0 and plan.groups:
            shapes = [_first_shape(group, plan) for group in plan.groups]
            weights = self.layers.weigh(shapes, np.array(self._means) if self._means else None)
            spread: npt.NDArray[np.float64] = 1.0 - densities(weights, [group.size for group in plan.groups], ratio)
            return np.clip(spread, 0.0, np.nextafter(1.0, 0.0))
        if self.rounding == "nearest" or ratio == 0.0:
            return ratio
        sizes = np.array([group.size for group in plan.groups], dtype=np.float64)
        kept = np.maximum(np.floor(sizes * (1.0 - ratio) + _EPS), np.minimum(self.min_units, sizes))
        ratios: npt.NDArray[np.float64] = 1.0 - kept / sizes
        return ratios


def _first_shape(group: Group, plan: SubmodelPlan) -> tuple[int, ...]:
    """Return the shape of the weight whose rows are the group's units."""
    shapes = [plan.structure.shapes[name] for name, dim in group.tensors if dim == 0]
    return next((shape for shape in shapes if len(shape) > 1), plan.structure.shapes[group.tensors[0][0]])
