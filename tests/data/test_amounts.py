"""Quantity skew, alone and with label skew: by the closed forms of its laws."""

from math import erf, exp, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.data import (
    ClassesPerClient,
    DirichletByClient,
    LogNormalAmounts,
    PartitionStatistics,
    PowerLawAmounts,
    QuantitySkew,
)
from fedlight.data.amounts import share_out
from fedlight.errors import ConfigError, DataError

LAWS = [LogNormalAmounts(1.0), PowerLawAmounts(2.2)]
MANY = 40_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def name_of(law) -> str:
    return type(law).__name__


def balanced(num_classes: int, per_class: int) -> np.ndarray:
    return np.repeat(np.arange(num_classes), per_class)


def gini(sizes: np.ndarray) -> float:
    return PartitionStatistics(sizes).gini


@given(
    total=st.integers(0, 500),
    weights=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=30),
    least=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_shares_sum_to_the_total_and_nobody_starves(total, weights, least):
    total += least * len(weights)
    sizes = share_out(total, np.array(weights), least)
    assert sizes.sum() == total
    assert sizes.min() >= least


def test_shares_are_proportional_above_the_least():
    # 3 gets its least of 10; the other 90 are shared 2 : 1.
    assert share_out(100, np.array([20.0, 10.0, 0.1]), 10).tolist() == [60, 30, 10]
    # Quotas 3.5, 3.5 and 3: one of the halves is rounded up.
    assert sorted(share_out(10, np.array([3.5, 3.5, 3.0]), 1)) == [3, 3, 4]
    assert share_out(3, np.array([1e-308, 1.0, 1e-308]), 1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_log_normal_amounts_have_their_moments_and_gini(sigma):
    weights = LogNormalAmounts(sigma).weights(MANY, rng())
    # The standard error of a normal sample's standard deviation is σ / sqrt(2 N).
    assert np.log(weights).std() == pytest.approx(sigma, abs=4 * sigma / sqrt(2 * MANY))
    sizes = share_out(10**9, weights, 1)
    assert sizes.std() / sizes.mean() == pytest.approx(sqrt(exp(sigma**2) - 1), rel=0.05)
    assert gini(sizes) == pytest.approx(erf(sigma / 2), abs=0.01)


@pytest.mark.parametrize("exponent", [2.5, 4.0])
def test_power_law_amounts_have_an_exponential_logarithm_and_their_gini(exponent):
    logs = np.log(PowerLawAmounts(exponent).weights(MANY, rng()))
    logs -= logs.min()
    # Mean and standard deviation of an exponential law are equal; their standard errors are m / sqrt(N) and
    # m sqrt(2 / N). Over N draws the least is m / N above the law's own least.
    mean = 1 / (exponent - 1)
    assert logs.mean() == pytest.approx(mean, abs=4 * mean / sqrt(MANY))
    assert logs.std() == pytest.approx(mean, abs=4 * mean * sqrt(2 / MANY))
    assert gini(share_out(10**9, np.exp(logs), 1)) == pytest.approx(1 / (2 * exponent - 3), abs=0.05)


@pytest.mark.parametrize("law", LAWS, ids=name_of)
def test_the_mix_stays_the_same_while_amounts_differ(law):
    labels = balanced(4, 5000)
    assignment = QuantitySkew(law, min_samples=3).assign(labels, 20_000, 30, rng())
    assert sorted(assignment.order) == list(range(20_000))
    assert assignment.sizes.min() >= 3
    assert gini(assignment.sizes) > 0.3
    largest = labels[assignment.of(int(assignment.sizes.argmax()))]
    # Drawn without replacement: at most the multinomial spread, sqrt(n p (1 - p)).
    n = len(largest)
    assert abs(np.bincount(largest) - n / 4).max() < 4 * sqrt(n * 3 / 16)


def test_amounts_need_no_labels():
    assert QuantitySkew().assign(None, 100, 5, rng()).sizes.sum() == 100


@pytest.mark.parametrize("law", LAWS, ids=name_of)
def test_both_skews_at_once(law):
    labels = balanced(10, 4000)
    assignment = DirichletByClient(0.5, min_samples=20, amounts=law).assign(labels, len(labels), 50, rng(3))
    # Amounts are drawn first, so they are those of the law alone.
    assert np.array_equal(assignment.sizes, share_out(len(labels), law.weights(50, rng(3)), 20))
    assert sorted(assignment.order) == list(range(len(labels)))
    counts = np.stack([np.bincount(labels[assignment.of(k)], minlength=10) for k in range(50)])
    assert PartitionStatistics(assignment.sizes, counts).js_distance.mean() > 0.3


def test_k_classes_with_unequal_amounts():
    labels = balanced(10, 1000)
    rule = ClassesPerClient(2, amounts=LogNormalAmounts(1.0))
    assignment = rule.assign(labels, len(labels), 100, rng())
    counts = np.stack([np.bincount(labels[assignment.of(k)], minlength=10) for k in range(100)])
    assert ((counts > 0).sum(axis=1) == 2).all()
    assert counts.sum() == 10_000
    # Twenty owners share each class by weights of which the whole has a Gini coefficient of 0.52.
    assert 0.35 < gini(assignment.sizes) < 0.6


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_drawn_clients_have_the_mean_and_variance_of_dirichlets_closed_form(alpha):
    """E = 1/C and Var = (1/C)(1 - 1/C)/(C α + 1), times (n + C α)/n since a client holds n examples."""
    num_classes, num_clients, n = 5, 2000, 100
    labels = balanced(num_classes, num_clients * n // num_classes)
    assignment = DirichletByClient(alpha).assign(labels, len(labels), num_clients, rng())
    counts = np.stack([np.bincount(labels[assignment.of(k)], minlength=num_classes) for k in range(num_clients)])
    shares, p, total = counts / n, 1 / num_classes, num_classes * alpha
    variance = p * (1 - p) / (total + 1) * (n + total) / n
    assert shares.mean(axis=0) == pytest.approx(p)  # every example has an owner
    # The shares of a class stray from 1/C by sd / sqrt(N) on average, and what is too much moves to other classes.
    moved = sqrt(variance / num_clients) / p
    error = sqrt(5 / (num_clients * num_classes))  # of a variance whose kurtosis is at most 6
    assert shares.var() == pytest.approx(variance, rel=3 * error + 2 * moved)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LogNormalAmounts(0), "sigma is 0"),
        (lambda: LogNormalAmounts(float("inf")), "sigma is inf"),
        (lambda: PowerLawAmounts(1.0), "exponent is 1.0"),
        (lambda: PowerLawAmounts(float("nan")), "exponent is nan"),
        (lambda: QuantitySkew(min_samples=0), "min_samples is 0"),
    ],
)
def test_bad_settings_are_refused_at_once(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_too_few_examples_for_the_least_are_refused():
    with pytest.raises(DataError, match=r"below min_samples = 5: set data.num_clients to at most 2"):
        QuantitySkew(min_samples=5).assign(None, 12, 3, rng())
