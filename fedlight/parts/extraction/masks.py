"""Weight masks: which tensors have them, what they cost, and how they are kept in a bit per weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedlight.errors import CheckpointError
from fedlight.parts.encoding import encoded_bytes
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.structure import Cost

Masks = dict[str, Tensor]

Kernels = Literal["dense", "sparse"]
"""Whether masked weights cost multiplications all the same, or none."""


def maskable(plan: SubmodelPlan) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that masks may cut: two dims or more, and a name that says ``weight``."""
    shapes = plan.structure.shapes
    return {name: shape for name, shape in shapes.items() if len(shape) >= 2 and "weight" in name.rpartition(".")[2]}


def on_device(masks: Masks, weights: Mapping[str, Tensor]) -> Masks:
    """Put masks where the weights are: clients apply them there."""
    return {name: mask.to(weights[name].device) for name, mask in masks.items()}


def masked_cost(plan: SubmodelPlan, kept: Mapping[str, int], kernels: Kernels = "dense") -> Cost:
    """Return the cost of a submodel that keeps so many weights of each tensor (others whole).

    Each tensor is sent in its cheapest scheme (:func:`~fedlight.parts.encoding.encoded_bytes`).
    """
    full = plan.cost(torch.ones(plan.num_units, dtype=torch.bool))
    parameters, macs, num_bytes = full.parameters, float(full.macs), full.num_bytes
    per_entry = plan.costs.macs_per_entry if kernels == "sparse" else {}
    for name, count in kept.items():
        shape = plan.structure.shapes[name]
        size = math.prod(shape)
        parameters -= size - count
        macs -= per_entry.get(name, 0.0) * (size - count)
        num_bytes -= 4 * size - encoded_bytes(shape, count)
    return replace(full, parameters=parameters, macs=round(macs), num_bytes=num_bytes)


def largest(scores: Tensor, count: int) -> Tensor:
    """Mask the ``count`` largest entries; of equal ones the first."""
    flat = scores.flatten()
    if count >= flat.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - count + 1).values
    mask = flat > threshold
    mask[torch.nonzero(flat == threshold).flatten()[: count - int(mask.sum())]] = True
    return mask.view(scores.shape)


def pack_bits(flags: Tensor) -> Tensor:
    """Pack bool[n] into uint8[⌈n / 8⌉] on the CPU."""
    return torch.from_numpy(np.packbits(flags.detach().flatten().cpu().numpy()))


def unpack_bits(packed: Tensor, count: int, what: str) -> Tensor:
    """Return bool[count]; CheckpointError if ``packed`` has another length."""
    if len(packed) != (count + 7) // 8:
        raise CheckpointError(
            f"client maps of {len(packed)} bytes don't fit a model of {count} {what}: "
            "resume with the architecture of that run"
        )
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count).astype(bool))


def pack_masks(masks: Mapping[str, Tensor]) -> Tensor:
    """Pack masks one after the other, in the order of :func:`maskable`."""
    flat = [mask.flatten().cpu() for mask in masks.values()]
    return pack_bits(torch.cat(flat) if flat else torch.zeros(0, dtype=torch.bool))


def unpack_masks(packed: Tensor, plan: SubmodelPlan) -> Masks:
    """Return what :func:`pack_masks` packed; CheckpointError if it is of another model."""
    shapes = maskable(plan)
    sizes = [math.prod(shape) for shape in shapes.values()]
    flat = unpack_bits(packed, sum(sizes), "masked weights")
    return {
        name: part.view(shape)
        for (name, shape), part in zip(shapes.items(), flat.split_with_sizes(sizes) if sizes else [], strict=True)
    }
