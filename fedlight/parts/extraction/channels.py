"""What the client gets: a keep set of channels, or weight masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlight.core.slots import Extraction
from fedlight.core.types import RoundState
from fedlight.errors import CheckpointError, ConfigError
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import ChannelCoverage, Coverage
from fedlight.submodels.keep import Ratio, kept_counts
from fedlight.submodels.structure import Cost

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
      give way to more important others, so maps settle.

    Args:
        scope: ``layer``: every group loses the ratio; ``global``: units of all groups compete.
        round_to: kept counts are multiples of this where a group is large enough; 1 for exact counts.
        min_units: units that every group keeps at least.
        every: rounds between two prunings (ΔT).
        until: last round that prunes (T_end), counted from 0; None: never stop.
        exchange: ``all`` or ``cosine``; the latter needs ``until``.
        rounding: ``nearest``, by ``round_to``, or ``floor``: max(min_units, ⌊size · (1 - ratio)⌋) units of each group,
            as FedMP's authors and Torch-Pruning count; needs the ``layer`` scope and ``round_to=1``.
    """

    def __init__(
        self,
        scope: Scope = "layer",
        round_to: int = 8,
        min_units: int = 1,
        every: int = 1,
        until: int | None = None,
        exchange: Literal["all", "cosine"] = "all",
        rounding: Literal["nearest", "floor"] = "nearest",
    ) -> None:
        if rounding not in ("nearest", "floor"):
            raise ConfigError(f"rounding={rounding!r} is not one of 'nearest', 'floor'")
        if rounding == "floor" and (scope != "layer" or round_to != 1):
            raise ConfigError(f"rounding='floor' counts exactly: it needs round_to=1 (is {round_to}) and scope='layer'")
        if every < 1:
            raise ConfigError(f"every={every} is no number of rounds between prunings: use 1 or more")
        if exchange not in ("all", "cosine"):
            raise ConfigError(f"exchange={exchange!r} is not one of 'all', 'cosine'")
        if exchange == "cosine" and (until is None or until < 1):
            raise ConfigError(
                f"exchange='cosine' settles maps by a last round, but until={until}: set until to 1 or more"
            )
        self.scope: Scope = scope
        self.round_to = round_to
        self.min_units = min_units
        self.every = every
        self.until = until
        self.exchange = exchange
        self.rounding = rounding
        self._maps: dict[int, tuple[float, Tensor]] = {}  # client: (ratio, packed keep)
        self._costs: dict[float, Cost] = {}
        self._priced: SubmodelPlan | None = None

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

    def extract(self, state: RoundState, client: int, ratio: float, scores: Callable[[], Tensor]) -> Coverage:
        """Return the client's map for this round."""
        plan = state.plan
        old_ratio, packed = self._maps.get(client, (None, None))
        old = None if packed is None else _unpack(packed, plan.num_units)
        share = self._share(state.round_idx)
        if old is not None and ratio == old_ratio and share == 0.0:
            return ChannelCoverage(plan.structure, old)
        if ratio == 0.0:
            keep = torch.ones(plan.num_units, dtype=torch.bool)
        elif old is None or share == 1.0:
            keep = self._keep(plan, scores(), ratio)
        else:
            keep = self._keep(plan, _shielded(scores(), old, plan, share, self.scope), ratio)
        self._maps[client] = (ratio, _pack(keep))
        return ChannelCoverage(plan.structure, keep)

    def last(self, plan: SubmodelPlan, client: int) -> Coverage | None:
        """Return the client's last map, None if it never had one."""
        if client not in self._maps:
            return None
        return ChannelCoverage(plan.structure, _unpack(self._maps[client][1], plan.num_units))

    def state_dict(self) -> dict[str, Any]:
        """Return every client's ratio and map, one bit per unit."""
        clients = sorted(self._maps)
        maps = [self._maps[client][1] for client in clients]
        return {
            "clients": torch.tensor(clients, dtype=torch.int64),
            "ratios": torch.tensor([self._maps[client][0] for client in clients], dtype=torch.float64),
            "maps": torch.stack(maps) if maps else torch.zeros(0, 0, dtype=torch.uint8),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back ratios and maps."""
        rows = zip(state["clients"].tolist(), state["ratios"].tolist(), state["maps"], strict=True)
        self._maps = {client: (ratio, packed.clone()) for client, ratio, packed in rows}

    def _share(self, round_idx: int) -> float:
        """Return the share of the kept units that this round may exchange."""
        if round_idx % self.every or (self.until is not None and round_idx > self.until):
            return 0.0
        if self.exchange == "all" or self.until is None:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * round_idx / self.until))

    def _keep(self, plan: SubmodelPlan, scores: Tensor, ratio: float) -> Tensor:
        per_group = self._per_group(plan, ratio)
        return plan.keep(scores, per_group, scope=self.scope, round_to=self.round_to, min_units=self.min_units)

    def _per_group(self, plan: SubmodelPlan, ratio: float) -> Ratio:
        """Return the ratio, or with ``floor`` the one of each group at which ⌊size · (1 - ratio)⌋ units stay."""
        if self.rounding == "nearest" or ratio == 0.0:
            return ratio
        sizes = np.array([group.size for group in plan.groups], dtype=np.float64)
        kept = np.maximum(np.floor(sizes * (1.0 - ratio) + _EPS), np.minimum(self.min_units, sizes))
        ratios: npt.NDArray[np.float64] = 1.0 - kept / sizes
        return ratios


def _shielded(scores: Tensor, old: Tensor, plan: SubmodelPlan, share: float, scope: Scope) -> Tensor:
    """Lift the best 1 - share of the kept units above all others; the order among them stays."""
    spans = [group.units for group in plan.groups] if scope == "layer" else [slice(0, plan.num_units)]
    lifted = scores.to(torch.float64).clone()
    lift = float(lifted.max() - lifted.min()) + 1.0
    for span in spans:
        kept = torch.nonzero(old[span]).flatten() + span.start
        num_safe = math.ceil(round((1 - share) * len(kept), 6))
        best = torch.sort(scores[kept], descending=True, stable=True).indices[:num_safe]
        lifted[kept[best]] += lift
    return lifted


def _pack(keep: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(keep.numpy()))


def _unpack(packed: Tensor, num_units: int) -> Tensor:
    if len(packed) != (num_units + 7) // 8:
        raise CheckpointError(
            f"client maps of {len(packed)} bytes don't fit a model of {num_units} units: "
            "resume with the architecture of that run"
        )
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=num_units).astype(bool))
