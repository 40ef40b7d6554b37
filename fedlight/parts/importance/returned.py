"""What clients return for importance: their statistics, summed to one number per unit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fedlight.core.types import Update
from fedlight.errors import ConfigError
from fedlight.parts.importance.units import UnitSums
from fedlight.submodels.coverage import Coverage

StatisticName = Literal["abs_grad", "sq_grad", "taylor", "abs_change"]


def checked_name(name: str, key: str = "name") -> frozenset[str]:
    """Return what the clients must sum up for a statistic; ConfigError that names ``key`` if there is none."""
    if name not in ("abs_grad", "sq_grad", "taylor", "abs_change"):
        raise ConfigError(f"{key}={name!r} is no statistic: use 'abs_grad', 'sq_grad', 'taylor' or 'abs_change'")
    return frozenset({name})


def checked_decay(decay: float) -> float:
    """Return a weight of the past if it lies in [0, 1); else raise ConfigError."""
    if not 0.0 <= decay < 1.0:
        raise ConfigError(f"decay={decay} is outside [0, 1): 0 forgets at once, 0.9 remembers some ten rounds")
    return decay


def num_draws(name: str, update: Update) -> int:
    """Return what the sums are divided by: optimizer steps, or 1 for what is measured once."""
    return 1 if name == "abs_change" else update.num_steps


def unit_sums(of_units: UnitSums, name: str, coverage: Coverage, update: Update) -> Tensor | None:
    """Return float32[2, num_units]: Σ_i S_i and K · |{i}| over the entries i of each unit that the client covers.

    K is the client's optimizer steps, 1 for ``abs_change``. None if a sum isn't finite: a square can overflow where
    the update doesn't, and would stay for good. In float32 they add up exactly in float64, in whatever order.
    """
    values = update.statistics.get(name, {})
    masks = coverage.masks or {}

    def held(tensor: str) -> Tensor | None:
        """1 where a value counts (as wide as needed, without memory)."""
        if tensor not in values:
            return None
        return masks[tensor].float() if tensor in masks else torch.ones(()).expand(values[tensor].shape)

    def value_of(tensor: str) -> Tensor | None:
        value = values.get(tensor)
        return value if value is None or tensor not in masks else value * masks[tensor].to(value.device)

    sums = of_units(value_of, coverage.keep).to(torch.float32)
    if not bool(torch.isfinite(sums).all()):
        return None
    return torch.stack([sums, num_draws(name, update) * of_units(held, coverage.keep).to(torch.float32)])
