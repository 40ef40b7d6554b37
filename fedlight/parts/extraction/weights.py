"""Unstructured submodels: every client gets the full shape, with the least important weights masked."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from fedlight.core.slots import Extraction, Scores
from fedlight.core.types import RoundState
from fedlight.errors import ConfigError
from fedlight.parts.extraction.layer_ratios import LayerRatios, densities, exact_counts
from fedlight.parts.extraction.masks import (
    Kernels,
    Masks,
    largest,
    maskable,
    masked_cost,
    on_device,
    pack_masks,
    unpack_masks,
)
from fedlight.parts.extraction.pruning_schedule import Exchange, PruningSchedule, shielded
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage, MaskCoverage
from fedlight.submodels.structure import Cost


@final
class Weights(Extraction):
    """Mask the weights that matter least: in a tensor of n weights ``n - round(n · ratio)`` stay, one at least.

    Tensors of two or more dims whose name says ``weight`` are masked (convolutions, linear and recurrent layers,
    embeddings); biases, norms and positions are sent whole. Which weights stay is decided by the importance's scores
    per weight. A client's map is revised as :class:`Channels` revises it: at pruning rounds, t ≡ 0 mod ``every`` up to
    ``until``, and whenever its ratio changes, when it only drops the least important weights or adds the most important
    others. With ``exchange="cosine"`` a pruning round replaces at most a share p_t of each tensor's kept weights, by
    RigL's rule (:func:`~fedlight.parts.extraction.pruning_schedule.shielded`): what goes is decided by the scores, what
    comes by the importance's ``growth`` scores where it has such (:class:`~fedlight.parts.Regrowth`). A weight that
    comes back takes the global model's value. Between prunings a client keeps its map.

    Each tensor is sent in its cheapest scheme. Every client's last masks are remembered, a bit per weight for each
    distinct map; a map goes with its last client. A job in flight holds its masks unpacked, a byte per weight; those
    with one map in a round hold the same, so only masks of a client's own (a personal importance, or a ratio that
    others don't have) take a byte per weight for each client at work.

    Args:
        scope: ``layer``: every tensor loses the ratio, or what ``layers`` gives it; ``global``: all weights compete.
        every: rounds between two prunings (ΔT).
        until: last round that prunes (T_end), counted from 0; None: never stop.
        exchange: ``all``: maps are drawn anew; ``cosine``: p_t = exchange_share · ½ (1 + cos(π t / until)).
        exchange_share: p_0, in (0, 1]; RigL's α.
        layers: how the ratio is spread over the tensors, in total exactly; None: the same for all, each rounded by
            itself.
        normalizer: ``mean``: scores are divided by their tensor's mean before all compete; None: as they are.
        kernels: ``dense``: a masked submodel costs as many MACs as the full one; ``sparse``: those of its weights only.
    """

    needs_entries = True

    def __init__(
        self,
        scope: Literal["layer", "global"] = "layer",
        every: int = 1,
        until: int | None = None,
        exchange: Exchange = "all",
        exchange_share: float = 1.0,
        layers: LayerRatios | None = None,
        normalizer: Literal["mean"] | None = None,
        kernels: Kernels = "dense",
    ) -> None:
        if scope not in ("layer", "global"):
            raise ConfigError(f"scope={scope!r} is not a pruning scope: use 'layer' or 'global'")
        if layers is not None and scope == "global":
            raise ConfigError("layers spreads the ratio, scope='global' lets tensors compete: use scope='layer'")
        if kernels not in ("dense", "sparse"):
            raise ConfigError(f"kernels={kernels!r} is not one of 'dense', 'sparse'")
        if normalizer not in (None, "mean"):
            raise ConfigError(f"normalizer={normalizer!r} is unknown: use 'mean', or leave it out (null)")
        if layers is not None and layers.learns and normalizer is not None:
            raise ConfigError(
                f"layers={type(layers).__name__} learns nothing from scores under normalizer={normalizer!r}, which "
                "makes all layers alike: leave it out (null)"
            )
        self.scope = scope
        self.layers = layers
        self.normalizer = normalizer
        self.kernels: Kernels = kernels
        self.schedule = PruningSchedule(every, until, exchange, exchange_share)
        self._clients: dict[int, tuple[float, str]] = {}  # client: its ratio and the key of its last map
        self._maps: dict[str, Tensor] = {}  # key: masks as bits
        self._users: Counter[str] = Counter()  # key: clients whose last map it is
        self._means: dict[str, float] = {}  # by tensor, of the scores that were drawn by last
        self._round_idx = -1
        self._drawn: dict[tuple[float, str | None, int | None], str] = {}  # of this round: what it is for, to its key
        self._bits: dict[str, Tensor] = {}  # of this round, by key
        self._shared: dict[str, MaskCoverage] = {}  # of this round, by key: those that more than one client has

    def cost(self, plan: SubmodelPlan, ratio: float) -> Cost:
        """Return the cost at a ratio; exact in the ``layer`` scope, priced as if layer-wise in the ``global`` one."""
        return masked_cost(plan, self._counts(plan, ratio), self.kernels)

    def cost_of(self, plan: SubmodelPlan, coverage: Coverage) -> Cost:
        """Return the exact cost of one client's submodel."""
        masks = coverage.masks or {}
        return masked_cost(plan, {name: int(mask.sum()) for name, mask in masks.items()}, self.kernels)

    def extract(self, state: RoundState, client: int, ratio: float, scores: Scores) -> Coverage:
        """Return the client's masks for this round."""
        share = self.schedule.share(state.round_idx)
        if state.round_idx != self._round_idx:
            self._round_idx, self._drawn, self._bits, self._shared = state.round_idx, {}, {}, {}
        old_ratio, old = self._clients.get(client, (None, None))
        if old is not None and ratio == old_ratio and share == 0.0:
            return self._coverage(old, state)
        base = None if share == 1.0 or ratio == 0.0 else old
        purpose = (ratio, base, client if scores.personal and ratio > 0.0 else None)
        masks = None
        if purpose not in self._drawn:
            masks = self._draw(state, ratio, scores, base, share)
            bits = pack_masks(masks)
            key = hashlib.sha256(bits.numpy().tobytes()).hexdigest()
            self._drawn[purpose], self._bits[key] = key, bits
        key = self._drawn[purpose]
        self._clients[client], self._maps[key] = (ratio, key), self._bits[key]
        self._users.update((key,))
        if old is not None:
            self._release(old)
        return self._coverage(key, state, masks)

    def last(self, plan: SubmodelPlan, client: int) -> Coverage | None:
        """Return the client's last masks, None if it never had any."""
        if client not in self._clients:
            return None
        return MaskCoverage(plan.structure, unpack_masks(self._maps[self._clients[client][1]], plan))

    def forget(self, clients: Sequence[int]) -> None:
        """Drop these clients' maps."""
        for client in clients:
            if client in self._clients:
                self._release(self._clients.pop(client)[1])

    def state_dict(self) -> dict[str, Any]:
        """Return the distinct masks in use, one bit per weight, who has which, and the layers' mean scores."""
        return {"maps": dict(self._maps), "clients": dict(self._clients), "means": dict(self._means)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._maps, self._clients, self._means = dict(state["maps"]), dict(state["clients"]), dict(state["means"])
        self._users = Counter(key for _, key in self._clients.values())
        self._round_idx, self._drawn, self._bits, self._shared = -1, {}, {}, {}

    def _release(self, key: str) -> None:
        """Let go of a map for one client, and of the map itself with its last."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key], self._maps[key]

    def _coverage(self, key: str, state: RoundState, masks: Masks | None = None) -> MaskCoverage:
        """Return the coverage of a map in use; ``masks`` are the map itself where they are at hand."""
        coverage = self._shared.get(key)
        if coverage is None:
            masks = unpack_masks(self._maps[key], state.plan) if masks is None else masks
            coverage = MaskCoverage(state.plan.structure, on_device(masks, state.weights))
            if self._users[key] > 1:
                self._shared[key] = coverage
        return coverage

    @torch.no_grad()
    def _draw(self, state: RoundState, ratio: float, scores: Scores, base: str | None, share: float) -> Masks:
        shapes = maskable(state.plan)
        if ratio == 0.0 or not shapes:
            return {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
        entries = scores.entries()
        values = {name: self._normalized(entries[name]) for name in shapes}
        if self.layers is not None and self.layers.learns:
            self._means = {name: float(value.mean(dtype=torch.float64)) for name, value in values.items()}
        old = None if base is None else unpack_masks(self._maps[base], state.plan)
        come = None
        if old is not None and scores.growth is not None:
            growth = scores.growth.entries()
            come = {name: self._normalized(growth[name]) for name in shapes}
        if self.scope == "layer":
            counts = self._counts(state.plan, ratio)
            return {name: largest(_revised(values, old, share, come, [name]), counts[name]) for name in shapes}
        return self._draw_global(_revised(values, old, share, come, list(shapes)), shapes, values, ratio)

    def _draw_global(
        self, joined: Tensor, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, Tensor], ratio: float
    ) -> Masks:
        kept = largest(joined, _num_kept(joined.numel(), ratio))
        parts = kept.split_with_sizes([math.prod(shape) for shape in shapes.values()])
        masks = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return {name: mask if bool(mask.any()) else largest(values[name], 1) for name, mask in masks.items()}

    def _normalized(self, value: Tensor) -> Tensor:
        mean = float(value.mean(dtype=torch.float64)) if self.normalizer == "mean" else 0.0
        return value / mean if mean > 0 else value

    def _counts(self, plan: SubmodelPlan, ratio: float) -> dict[str, int]:
        shapes = maskable(plan)
        sizes = [math.prod(shape) for shape in shapes.values()]
        if self.layers is None or ratio == 0.0 or not sizes:
            return {name: _num_kept(size, ratio) for name, size in zip(shapes, sizes, strict=True)}
        means = np.array([self._means[name] for name in shapes]) if self._means else None
        spread = densities(self.layers.weigh(list(shapes.values()), means), sizes, ratio)
        return dict(zip(shapes, exact_counts(spread, sizes, _num_kept(sum(sizes), ratio)), strict=True))


def _revised(
    values: Mapping[str, Tensor],
    old: Masks | None,
    share: float,
    growth: Mapping[str, Tensor] | None,
    names: list[str],
) -> Tensor:
    """Return what the named tensors' weights compete by: one tensor as it is, or all of them in a row."""
    flat = torch.cat([values[name].flatten() for name in names])
    if old is not None:
        kept = torch.cat([old[name].flatten() for name in names]).to(flat.device)
        come = None if growth is None else torch.cat([growth[name].flatten().to(flat.device) for name in names])
        flat = shielded(flat, kept, share, come)
    return flat.view(values[names[0]].shape) if len(names) == 1 else flat


def _num_kept(size: int, ratio: float) -> int:
    if not 0.0 <= ratio < 1.0:
        raise ConfigError(f"pruning ratio {ratio} is outside [0, 1): it is the fraction removed, 0 keeps everything")
    return max(1, size - round(size * ratio))
