"""Axis classes: the distinct owner vectors among all tensors' dims, so that each is worked on once."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlight.submodels.structure import Structure


@dataclass(frozen=True)
class AxisClasses:
    """The distinct owner vectors of a structure (a ResNet-18 has 12 among 100 dims).

    Attributes:
        owners: int64[size of the dim] per class: the unit that owns each position, -1 if always kept.
        blocks: per class, the length of the aligned blocks of positions that always have one owner (196 for a
            flattened 14 x 14 map, head_dim for heads; mostly 1).
        of_dims: tensor name to the class of each of its dims, -1 where never pruned; other tensors are left out.
    """

    owners: tuple[Tensor, ...]
    blocks: tuple[int, ...]
    of_dims: dict[str, tuple[int, ...]]


_known: dict[int, AxisClasses] = {}


def axis_classes(structure: Structure) -> AxisClasses:
    """Find the distinct owner vectors of a structure; remembered as long as the structure lives."""
    key = id(structure)  # a Structure holds mappings, so it can't be hashed
    if key not in _known:
        _known[key] = _find(structure)
        weakref.finalize(structure, _known.pop, key, None)
    return _known[key]


def _find(structure: Structure) -> AxisClasses:
    owners: list[Tensor] = []
    of_content: dict[bytes, int] = {}
    of_dims = {}
    for name, axes in structure.axes.items():
        classes = []
        for owner in axes:
            if owner is None or bool((owner < 0).all()):
                classes.append(-1)
                continue
            vector = owner.detach().to("cpu", torch.int64).contiguous()
            content = vector.numpy().tobytes()
            if content not in of_content:
                of_content[content] = len(owners)
                owners.append(vector)
            classes.append(of_content[content])
        if any(found >= 0 for found in classes):
            of_dims[name] = tuple(classes)
    return AxisClasses(tuple(owners), tuple(_block(owner) for owner in owners), of_dims)


def _block(owner: Tensor) -> int:
    changes = (owner[1:] != owner[:-1]).nonzero().view(-1) + 1
    return math.gcd(len(owner), *changes.tolist())
