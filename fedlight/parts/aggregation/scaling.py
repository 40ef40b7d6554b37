"""Updates brought to one length, and means over what covers an entry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedlight.core.types import Reduce, Update
from fedlight.errors import ConfigError
from fedlight.parts.sums import norm

_NOTHING = 1e-300  # far below any sum of weights


def checked_norm(update_norm: float | None) -> float | None:
    """Return Γ if it is a length or None; raises ConfigError if not."""
    if update_norm is not None and not 0.0 < update_norm < math.inf:  # NaN neither
        raise ConfigError(f"update_norm={update_norm} is no length: use a number above 0, or leave it out")
    return update_norm


def scale_to(update: Update, update_norm: float | None) -> float:
    """Return the factor that gives Δ the L2 norm Γ (1 for None, 0 for a Δ of zeros)."""
    if update_norm is None:
        return 1.0
    length = norm(update.delta)
    return update_norm / length if length > 0 else 0.0


def mean_(total: Tensor, count: Tensor) -> Tensor:
    """Divide in place; where nothing was counted, the total is 0 and stays it."""
    return total.div_(count.clamp_(min=_NOTHING))


def summed(values: Sequence[float], like: Mapping[str, Tensor], reduce: Reduce) -> list[float]:
    """Return numbers summed over the processes, on the way as float64 on the device of ``like``."""
    device = next((value.device for value in like.values()), None)
    numbers = torch.tensor(values, dtype=torch.float64, device=device)
    reduce(numbers)
    return [float(number) for number in numbers]
