"""The arithmetic that bandits share."""

from __future__ import annotations

import numpy as np

from fedlight.parts.ratio.bandits.bandit import Draw, Floats


def faded(values: Floats, discount: float, elapsed: float) -> Floats:
    """Weigh values by ``discount ** elapsed``; time doesn't run backwards."""
    weighted: Floats = values * discount ** max(elapsed, 0.0)
    return weighted


def upper_bounds(counts: Floats, sums: Floats, bonus_scale: float, total: float | None = None) -> Floats:
    """UCB index: R̄_j + scale · sqrt(2 log(total) / N_j), +inf for an arm never played.

    N_j = Σ_s λ^(t-s) 1[arm_s = j] and R̄_j N_j = Σ_s λ^(t-s) R_s 1[arm_s = j]. The bonus is Garivier & Moulines' (2011,
    On Upper-Confidence Bound Policies for Switching Bandit Problems, eq. for D-UCB) with B = 1, ξ = ½, and UCB1's where
    nothing fades; the logarithm is clamped at 0, since discounted counts may sum to less than 1.

    Args:
        counts: [..., num_arms], N.
        sums: [..., num_arms], R̄ N.
        bonus_scale: factor on the bonus; 1 is the textbook.
        total: what the logarithm is taken of; None: Σ_j N_j.

    Returns:
        [..., num_arms].
    """
    plays = np.maximum(counts.sum(axis=-1, keepdims=True) if total is None else total, 1.0)
    played = counts > 0
    safe = np.where(played, counts, 1.0)
    bonus = bonus_scale * np.sqrt(2.0 * np.log(plays) / safe)
    return np.where(played, sums / safe + bonus, np.inf)


def best(values: Floats, draw: Draw) -> int:
    """Return the index of the largest value; among equals chance decides."""
    tied = np.flatnonzero(values == values.max())
    return int(tied[0] if len(tied) == 1 else tied[draw().integers(len(tied))])
