"""Unstructured submodels: every client gets the full shape, with the smallest weights masked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from fedlight.core.slots import Extraction
from fedlight.core.types import RoundState
from fedlight.errors import CheckpointError, ConfigError
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.coverage import Coverage, MaskCoverage
from fedlight.submodels.structure import Cost

Masks = dict[str, Tensor]


@final
class Weights(Extraction):
    """Mask the weights of smallest |θ|: in a tensor of n weights ``n - round(n · ratio)`` stay, one at least.

    Tensors of two or more dims whose name says ``weight`` are masked (convolutions, linear and recurrent layers,
    embeddings); biases, norms and positions are sent whole. Masks are drawn anew each round from the global weights,
    so clients at one ratio share them. Kernels stay dense, so a masked submodel costs as many MACs as the full one;
    it is sent as the cheapest of dense (4 bytes per weight), bitmap (n / 8 + 4 per kept weight) and
    coordinates (8 per kept weight).

    Every client's last masks are remembered, a bit per weight for each distinct map; a map goes with its last client.

    Args:
        scope: ``layer``: every tensor loses the ratio; ``global``: one threshold over all of them.
    """

    def __init__(self, scope: Literal["layer", "global"] = "layer") -> None:
        if scope not in ("layer", "global"):
            raise ConfigError(f"scope={scope!r} is not a pruning scope: use 'layer' or 'global'")
        self.scope = scope
        self._clients: dict[int, str] = {}  # client: key of its last map
        self._maps: dict[str, Tensor] = {}  # key: masks as bits, one after the other in the order of _maskable
        self._round_idx = -1
        self._drawn: dict[float, tuple[str, Tensor, Masks]] = {}  # of this round, by ratio

    def cost(self, plan: SubmodelPlan, ratio: float) -> Cost:
        """Return the cost at a ratio; exact in the ``layer`` scope, priced as if layer-wise in the ``global`` one."""
        sizes = {name: _size(plan, name) for name in _maskable(plan)}
        return _priced(plan, {name: (size, _num_kept(size, ratio)) for name, size in sizes.items()})

    def cost_of(self, plan: SubmodelPlan, coverage: Coverage) -> Cost:
        """Return the exact cost of one client's submodel."""
        masks = coverage.masks or {}
        return _priced(plan, {name: (mask.numel(), int(mask.sum())) for name, mask in masks.items()})

    def extract(self, state: RoundState, client: int, ratio: float, scores: Callable[[], Tensor]) -> Coverage:
        """Return the masks of this round and ratio; unit scores aren't asked for."""
        if state.round_idx != self._round_idx:
            self._round_idx, self._drawn = state.round_idx, {}
        if ratio not in self._drawn:
            masks = self._draw(state, ratio)
            bits = _pack(masks)
            self._drawn[ratio] = hashlib.sha256(bits.numpy().tobytes()).hexdigest(), bits, masks
        key, bits, masks = self._drawn[ratio]
        before = self._clients.get(client)
        self._clients[client], self._maps[key] = key, bits
        if before is not None and before not in self._clients.values():
            del self._maps[before]
        return MaskCoverage(state.plan.structure, masks)

    def last(self, plan: SubmodelPlan, client: int) -> Coverage | None:
        """Return the client's last masks, None if it never had any."""
        if client not in self._clients:
            return None
        return MaskCoverage(plan.structure, _unpack(self._maps[self._clients[client]], plan))

    def state_dict(self) -> dict[str, Any]:
        """Return the distinct masks in use, one bit per weight, and who has which."""
        return {"maps": dict(self._maps), "clients": dict(self._clients)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._maps, self._clients = dict(state["maps"]), dict(state["clients"])
        self._round_idx, self._drawn = -1, {}

    def _draw(self, state: RoundState, ratio: float) -> Masks:
        sizes = {name: state.weights[name].detach().abs() for name in _maskable(state.plan)}
        if self.scope == "layer" or not sizes:
            return {name: _largest(value, _num_kept(value.numel(), ratio)) for name, value in sizes.items()}
        joined = torch.cat([value.flatten() for value in sizes.values()])
        kept, masks, start = _largest(joined, _num_kept(joined.numel(), ratio)), {}, 0
        for name, value in sizes.items():
            masks[name] = kept[start : start + value.numel()].view(value.shape)
            start += value.numel()
        return {name: mask if bool(mask.any()) else _largest(sizes[name], 1) for name, mask in masks.items()}


def _maskable(plan: SubmodelPlan) -> list[str]:
    shapes = plan.structure.shapes
    return [name for name, shape in shapes.items() if len(shape) >= 2 and "weight" in name.rpartition(".")[2]]


def _size(plan: SubmodelPlan, name: str) -> int:
    return int(np.prod(plan.structure.shapes[name]))


def _num_kept(size: int, ratio: float) -> int:
    if not 0.0 <= ratio < 1.0:
        raise ConfigError(f"pruning ratio {ratio} is outside [0, 1): it is the fraction removed, 0 keeps everything")
    return max(1, size - round(size * ratio))


def _priced(plan: SubmodelPlan, kept: Mapping[str, tuple[int, int]]) -> Cost:
    full = plan.cost(torch.ones(plan.num_units, dtype=torch.bool))
    saved = sum(4 * size - min(4 * size, -(-size // 8) + 4 * num, 8 * num) for size, num in kept.values())
    removed = sum(size - num for size, num in kept.values())
    return replace(full, parameters=full.parameters - removed, num_bytes=full.num_bytes - saved)


def _largest(value: Tensor, count: int) -> Tensor:
    """Mask the ``count`` largest entries; of equal ones the first."""
    flat = value.flatten()
    if count == flat.numel():
        return torch.ones_like(value, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - count + 1).values
    mask = flat > threshold
    mask[torch.nonzero(flat == threshold).flatten()[: count - int(mask.sum())]] = True
    return mask.view(value.shape)


def _pack(masks: Masks) -> Tensor:
    flat = [mask.flatten().cpu().numpy() for mask in masks.values()]
    return torch.from_numpy(np.packbits(np.concatenate(flat) if flat else np.zeros(0, dtype=bool)))


def _unpack(bits: Tensor, plan: SubmodelPlan) -> Masks:
    sizes = {name: _size(plan, name) for name in _maskable(plan)}
    if len(bits) != (sum(sizes.values()) + 7) // 8:
        raise CheckpointError(
            f"client masks of {len(bits)} bytes don't fit a model of {sum(sizes.values())} masked weights: "
            "resume with the architecture of that run"
        )
    flat = torch.from_numpy(np.unpackbits(bits.numpy(), count=sum(sizes.values())).astype(bool))
    parts = zip(sizes, flat.split_with_sizes(list(sizes.values())), strict=True)
    return {name: part.view(plan.structure.shapes[name]) for name, part in parts}
