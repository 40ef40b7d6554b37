"""Discounted upper confidence bounds, one agent per row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def discounted(values: Floats, discount: float, elapsed: Ints) -> Floats:
    """Weigh values by ``discount ** elapsed``, row by row."""
    return values * (discount ** elapsed.astype(np.float64))[:, None]


def upper_bounds(counts: Floats, sums: Floats, bonus_scale: float) -> Floats:
    """Discounted UCB index: R̄_j + scale · sqrt(2 log(Σ_j N_j) / N_j), +inf for an arm never played.

    N_j = Σ_s λ^(t-s) 1[arm_s = j] and R̄_j N_j = Σ_s λ^(t-s) R_s 1[arm_s = j]. The bonus is Garivier & Moulines' (2011,
    On Upper-Confidence Bound Policies for Switching Bandit Problems, eq. for D-UCB) with B = 1, ξ = ½; the logarithm is
    clamped at 0, since discounted counts may sum to less than 1.

    Args:
        counts: [num_agents, num_arms], N.
        sums: [num_agents, num_arms], R̄ N.
        bonus_scale: factor on the bonus; 1 is the textbook.

    Returns:
        [num_agents, num_arms].
    """
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    played = counts > 0
    safe = np.where(played, counts, 1.0)
    bonus = bonus_scale * np.sqrt(2.0 * np.log(total) / safe)
    return np.where(played, sums / safe + bonus, np.inf)
