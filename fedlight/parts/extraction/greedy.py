"""PruneFL's choice of a size: the set of entries that lowers the loss most per second of a round."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_set(gains: Tensor, times_s: Tensor, base_gain: float, base_time_s: float) -> Tensor:
    """Choose A to maximise Γ = (D + Σ_{j∈A} g_j²) / (T + Σ_{j∈A} t_j).

    Candidates come in order of g_j² / t_j, highest first (ties by index), each taken while its own ratio exceeds Γ of
    what is taken already; the first that doesn't ends it. A ratio rises by exactly the items whose own ratio is higher,
    so this is optimal (Jiang et al. 2022, PruneFL, §4; the stopping rule is that of their code).

    Args:
        gains: float64[n], g² of each candidate, >= 0.
        times_s: float64[n], seconds that each adds to a round, >= 0; those at 0 with a gain are always taken.
        base_gain: D, what is kept anyway.
        base_time_s: T, seconds of what is kept anyway.

    Returns:
        bool[n].
    """
    order = torch.argsort(gains / times_s.clamp(min=1e-300), descending=True, stable=True)
    sorted_gains, sorted_times = gains[order], times_s[order]
    gain_before = base_gain + sorted_gains.cumsum(0) - sorted_gains
    time_before = base_time_s + sorted_times.cumsum(0) - sorted_times
    passes = sorted_gains * time_before > gain_before * sorted_times  # g / t > D / T, without a division by zero
    count = int(passes.to(torch.int64).cumprod(0).sum())
    chosen = torch.zeros_like(passes)
    chosen[order[:count]] = True
    return chosen


def protected_share(round_idx: int, initial: float, half_life: float) -> float:
    """Return ρ_r = ρ_0 · ½^(r / H), the share of the kept entries that may be pruned in round r."""
    return float(initial * 0.5 ** (round_idx / half_life))


def protect(sizes: Tensor, kept: Tensor, prunable: float) -> Tensor:
    """Return bool[n]: the ⌈(1 - ρ) · kept⌉ entries of largest size among the kept ones; ties by index."""
    old = torch.nonzero(kept).flatten()
    num_safe = len(old) - int(prunable * len(old) + 1e-9)
    safe = torch.zeros_like(kept)
    safe[old[torch.argsort(sizes[old], descending=True, stable=True)[:num_safe]]] = True
    return safe
