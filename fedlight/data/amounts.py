"""How much every client holds: laws of quantity skew, and the partition that has no other skew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np

from fedlight.data.partition import Assignment, Partition, check_min_samples, equal_sizes, offsets_of
from fedlight.errors import ConfigError

TOLERANCE = 1e-9
"""Error of a floating-point share that is forgiven when it is cut to a whole number."""


class Amounts(ABC):
    """A law of how much clients hold, relative to each other."""

    @abstractmethod
    def weights(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Return float64[num_clients], amounts up to a common factor, > 0."""


@final
class LogNormalAmounts(Amounts):
    """Amounts w_k = exp(σ z_k) with z_k ~ N(0, 1).

    The coefficient of variation is sqrt(exp(σ²) - 1) and the Gini coefficient erf(σ / 2): σ = 1 gives 1.31 and 0.52.
    Source: J. Aitchison, J. A. C. Brown, "The Lognormal Distribution", 1957, chapters 2 and 11; for clients, the
    synthetic data of T. Li et al., "Federated Optimization in Heterogeneous Networks" (FedProx), MLSys 2020, whose
    code draws exp(4 + 2 z) examples.

    Args:
        sigma: σ, standard deviation of log w, > 0.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        if not 0 < sigma < float("inf"):
            raise ConfigError(f"sigma is {sigma}: the spread of a log-normal law is a number above 0")
        self.sigma = sigma

    def weights(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the amounts."""
        return _from_logs(self.sigma * rng.standard_normal(num_clients))


@final
class PowerLawAmounts(Amounts):
    """Amounts with density p(w) = (a - 1) w^(-a) for w >= 1: many clients hold little, a few very much.

    P(W > w) = w^(1 - a), so log w is exponential with mean 1 / (a - 1); for a > 2 the Gini coefficient is
    1 / (2 a - 3). At a <= 2 the mean is infinite: a handful of clients hold nearly everything.
    Source: A. Clauset, C. R. Shalizi, M. E. J. Newman, "Power-Law Distributions in Empirical Data", SIAM Review 51(4),
    2009, section 2.1.

    Args:
        exponent: a, > 1; the smaller, the more unequal.
    """

    def __init__(self, exponent: float = 2.5) -> None:
        if not 1 < exponent < float("inf"):
            raise ConfigError(f"exponent is {exponent}: a power law w^(-exponent) needs a number above 1")
        self.exponent = exponent

    def weights(self, num_clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the amounts."""
        return _from_logs(rng.standard_exponential(num_clients) / (self.exponent - 1))


@final
class QuantitySkew(Partition):
    """Unequal amounts of the same mix: client k holds n w_k / Σ w examples, drawn at random from all.

    A client whose share is below ``min_samples`` gets ``min_samples``, and the others share the rest by their w.

    Args:
        amounts: the law of the w; None for :class:`LogNormalAmounts` with σ = 1.
        min_samples: least number of examples of a client, >= 1.
    """

    def __init__(self, amounts: Amounts | None = None, min_samples: int = 1) -> None:
        self.amounts = amounts or LogNormalAmounts()
        self.min_samples = check_min_samples(min_samples)

    def assign(
        self, labels: np.ndarray | None, num_examples: int, num_clients: int, rng: np.random.Generator
    ) -> Assignment:
        """Draw amounts, then share out a random permutation."""
        sizes = draw_sizes(self.amounts, num_examples, num_clients, self.min_samples, rng)
        return Assignment(rng.permutation(num_examples).astype(np.int32), offsets_of(sizes))


def draw_sizes(
    amounts: Amounts | None, num_examples: int, num_clients: int, min_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return int64[num_clients] that sum to ``num_examples``: by a law, or equal where there is none.

    Raises:
        DataError: there are too few examples for ``min_samples`` each.
    """
    equal = equal_sizes(num_examples, num_clients, min_samples)
    if amounts is None:
        return equal
    return share_out(num_examples, amounts.weights(num_clients, rng), min_samples)


def share_out(total: int, weights: np.ndarray, least: int) -> np.ndarray:
    """Return int64[len(weights)] that sum to ``total``, each at least ``least``, else in proportion to the weights.

    Fractions are rounded by the largest remainder, so that those above ``least`` are within 1 of their share.

    Args:
        total: what is shared out, at least ``least`` for each.
        weights: > 0.
        least: what everyone gets at the least.
    """
    by_weight = np.ones(len(weights), dtype=bool)
    while True:
        exact = (total - least * (~by_weight).sum()) * weights / weights[by_weight].sum()
        too_small = by_weight & (exact < least - TOLERANCE)
        # The largest weight is never too small, so someone is always left to take the rest.
        if not too_small.any():
            break
        by_weight &= ~too_small
    exact = np.where(by_weight, exact, least)
    sizes: np.ndarray = np.floor(exact + TOLERANCE).astype(np.int64)
    left_over = total - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:left_over]] += 1
    return sizes


def _from_logs(logs: np.ndarray) -> np.ndarray:
    """Return exp(logs) over its largest entry: it can't overflow, and none becomes 0."""
    weights: np.ndarray = np.maximum(np.exp(logs - logs.max()), np.finfo(np.float64).tiny)
    return weights
