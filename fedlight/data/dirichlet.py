"""Label skew by Dirichlet draws: by client (equal amounts) or by class (unequal amounts)."""

from __future__ import annotations

from typing import final

import numpy as np

from fedlight.data.amounts import Amounts, draw_sizes
from fedlight.data.partition import (
    Assignment,
    Partition,
    assign_by_counts,
    begin_by_class,
    check_min_samples,
    offsets_of,
    or_min_samples,
)
from fedlight.errors import ConfigError, DataError

MAX_DRAWS = 100
"""Draws of :class:`DirichletByClass` before it gives up on ``min_samples``."""


@final
class DirichletByClient(Partition):
    """Unequal classes, equal or given amounts: every client draws its own class proportions q_k ~ Dir(α C p).

    p holds the C class frequencies of the data, so that E[q_kc] = p_c and Var[q_kc] = p_c (1 - p_c) / (α C + 1); for
    balanced classes this is Dir(α, ..., α). The class counts of a client are multinomial with q_k. Where clients ask
    for more of a class than there is, a random draw among all that was asked for decides who gets it, and what they
    lack is drawn anew from their q_k over the classes that are left; so every example has exactly one owner, and the
    mismatch is spread over all clients instead of falling on the last ones. α → 0 gives nearly one class per client,
    α → ∞ gives IID.

    Source: T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated
    Visual Classification", 2019 (arXiv 1909.06335), section 3; their concentration is our α C.

    Args:
        alpha: concentration per class, > 0.
        min_samples: least number of examples of a client, >= 1.
        amounts: the law of the clients' amounts, for both skews at once; None: all hold the same, up to one example.
    """

    def __init__(self, alpha: float = 0.5, min_samples: int = 1, amounts: Amounts | None = None) -> None:
        self.alpha = _check_alpha(alpha)
        self.min_samples = check_min_samples(min_samples)
        self.amounts = amounts

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Draw proportions, then counts, then examples."""
        labels, sizes, pools = begin_by_class(labels, num_clients, self.min_samples, "DirichletByClient")
        if self.amounts is not None:
            sizes = draw_sizes(self.amounts, num_examples, num_clients, self.min_samples, rng)
        shares = dirichlet(self.alpha * pools.size * pools / num_examples, num_clients, rng)
        return assign_by_counts(_counts(shares, sizes, pools, rng), labels, rng)


@final
class DirichletByClass(Partition):
    """Unequal amounts and unequal classes: every class is split over the N clients by a draw p_c ~ Dir_N(α).

    E[p_ck] = 1 / N and Var[p_ck] = (1/N) (1 - 1/N) / (N α + 1). All classes are drawn anew, at most 100 times, until
    the smallest client holds ``min_samples``: a small α with many clients can make that hopeless.

    Source: M. Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", ICML 2019,
    section 4; Q. Li et al., "Federated Learning on Non-IID Data Silos", ICDE 2022, section 4.1.

    Args:
        alpha: concentration per client, > 0.
        min_samples: least number of examples of a client, >= 1.
    """

    def __init__(self, alpha: float = 0.5, min_samples: int = 1) -> None:
        self.alpha = _check_alpha(alpha)
        self.min_samples = check_min_samples(min_samples)

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Draw a split of every class, then the examples."""
        labels, _, pools = begin_by_class(labels, num_clients, self.min_samples, "DirichletByClass")
        best = 0
        for _ in range(MAX_DRAWS):
            shares = dirichlet(np.full(num_clients, self.alpha), pools.size, rng)
            counts = np.stack([_split(pool, share) for pool, share in zip(pools, shares, strict=True)], axis=1)
            smallest = int(counts.sum(axis=1).min())
            if smallest >= self.min_samples:
                return assign_by_counts(counts, labels, rng)
            best = max(best, smallest)
        raise DataError(
            f"DirichletByClass with alpha = {self.alpha} left a client with at most {best} examples in {MAX_DRAWS} "
            f"draws over {num_clients} clients, below min_samples = {self.min_samples}: raise alpha, lower "
            f"data.num_clients{or_min_samples(self.min_samples)}, or use DirichletByClient, which "
            "gives equal amounts"
        )


def dirichlet(concentration: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return float64[count, len(concentration)], draws from Dir(concentration); a concentration of 0 gives share 0.

    Drawn as normalised log-gamma variables, Gamma(a) = Gamma(a + 1) · U^(1/a), since for small concentrations plain
    gamma draws underflow to 0 in every entry.
    """
    shape = (count, concentration.size)
    with np.errstate(divide="ignore"):
        inverse = 1 / concentration
    boosted = np.log(rng.standard_gamma(np.broadcast_to(concentration + 1, shape)))
    logs = boosted - rng.standard_exponential(shape) * inverse
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _counts(shares: np.ndarray, sizes: np.ndarray, pools: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return int64[N, C]: multinomial counts by client that sum to sizes by row and to pools by column."""
    counts = np.zeros(shares.shape, dtype=np.int64)
    left = pools.astype(np.int64)
    open_clients, missing = np.arange(len(sizes)), sizes
    # A round without a class that runs out is the last one, so there are at most as many rounds as classes, and one.
    while open_clients.size:
        granted = rng.multinomial(missing, _over_open_classes(shares[open_clients], left))
        for label in np.flatnonzero(granted.sum(axis=0) > left):
            wanted = granted[:, label].copy()
            granted[:, label] = rng.multivariate_hypergeometric(wanted, left[label], method="marginals")
        counts[open_clients] += granted
        left -= granted.sum(axis=0)
        missing = missing - granted.sum(axis=1)
        open_clients, missing = open_clients[missing > 0], missing[missing > 0]
    return counts


def _over_open_classes(shares: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return shares normalised over the classes that have examples left, these by amount where a row has no share."""
    kept = shares * (left > 0)
    totals = kept.sum(axis=1, keepdims=True)
    return np.where(totals > 0, kept / np.where(totals > 0, totals, 1), left / left.sum())


def _split(count: int, shares: np.ndarray) -> np.ndarray:
    """Return int64[len(shares)] that sums to ``count``, each within 1 of count x share."""
    ends = np.round(np.cumsum(shares) * count).astype(np.int64)
    ends[-1] = count
    return np.diff(offsets_of(np.diff(ends, prepend=0)))


def _check_alpha(alpha: float) -> float:
    if not 0 < alpha < float("inf"):
        raise ConfigError(f"data.partition.alpha is {alpha}: a Dirichlet concentration is a number above 0")
    return alpha
