import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedlight.report.statistics import holm, is_significant, mean_interval, paired_p, ratio_interval

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
positive = st.floats(0.01, 1e3)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.5, 0.25], [3.0, 3.5, 2.0, 9.0, 1.0]])
def test_interval_is_that_of_scipy(values):
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert (found.num_values, found.num_asked) == (len(values), len(values))


def test_interval_by_hand():
    # s = 1, n = 3: 4.302653 / sqrt(3)
    assert mean_interval([1.0, 2.0, 3.0]).half == pytest.approx(2.484138, abs=1e-6)


def test_one_value_has_no_interval_and_none_no_mean():
    one, nothing = mean_interval([5.0]), mean_interval([None, None])
    assert one.mean == 5.0
    assert math.isnan(one.half)
    assert math.isnan(nothing.mean)
    assert (nothing.num_values, nothing.num_asked) == (0, 2)


def test_those_without_a_value_are_asked_for_but_not_averaged():
    found = mean_interval([2.0, None, 4.0, math.nan])
    assert (found.mean, found.num_values, found.num_asked) == (3.0, 2, 4)


@given(st.lists(numbers, min_size=2, max_size=8), numbers)
def test_interval_moves_with_its_values_and_holds_their_mean(values, shift):
    found, moved = mean_interval(values), mean_interval([value + shift for value in values])
    assert found.low <= found.mean <= found.high
    assert moved.mean == pytest.approx(found.mean + shift, abs=1e-6)
    assert moved.half == pytest.approx(found.half, abs=1e-6)


def test_ratio_interval_is_the_t_interval_of_logs():
    baseline, variant = {0: 100.0, 1: 120.0, 2: 90.0}, {0: 20.0, 1: 40.0, 2: 30.0}
    logs = np.log([5.0, 3.0, 3.0])
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    found = ratio_interval(baseline, variant)
    assert found.mean == pytest.approx(45 ** (1 / 3))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_ratio_is_paired_by_seed():
    # Seed 7 is the baseline's alone, seed 2 never got there, seed 3 has no partner.
    found = ratio_interval({0: 10.0, 2: 10.0, 7: 1.0}, {0: 5.0, 2: None, 3: 5.0})
    assert (found.mean, found.num_values, found.num_asked) == (2.0, 1, 3)


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=6))
def test_ratio_the_other_way_round_is_its_inverse(pairs):
    over, under = ({seed: pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    found, inverse = ratio_interval(over, under), ratio_interval(under, over)
    assert math.log(found.mean) == pytest.approx(-math.log(inverse.mean), abs=1e-9)
    if 0 < inverse.low < inverse.high < math.inf and found.low > 0:
        assert math.log(found.low) == pytest.approx(-math.log(inverse.high), rel=1e-6, abs=1e-6)


def test_p_value_is_that_of_scipys_paired_test():
    first, second = {0: 0.80, 1: 0.83, 2: 0.85, 3: 0.81}, {2: 0.80, 0: 0.79, 1: 0.79, 3: 0.80, 9: 0.1}
    expected = stats.ttest_rel([0.80, 0.83, 0.85, 0.81], [0.79, 0.79, 0.80, 0.80]).pvalue
    assert paired_p(first, second) == pytest.approx(expected)
    logs = stats.ttest_rel(np.log([0.80, 0.83, 0.85, 0.81]), np.log([0.79, 0.79, 0.80, 0.80])).pvalue
    assert paired_p(first, second, logs=True) == pytest.approx(logs)


@given(st.dictionaries(st.integers(0, 1), st.tuples(positive, positive), max_size=2))
def test_fewer_than_three_pairs_are_never_tested(pairs):
    first, second = ({seed: pair[side] for seed, pair in pairs.items()} for side in (0, 1))
    assert paired_p(first, second) is None
    assert paired_p(first, second, logs=True) is None


def test_seeds_without_any_effect_are_no_repetitions():
    base = dict.fromkeys(range(4), 0.5)
    assert paired_p(dict.fromkeys(range(4), 0.6), base) is None
    assert paired_p(dict(base), base) == 1.0


def test_holm_by_hand():
    # 0.01 * 3, 0.03 * 2, and 0.04 * 1 raised to the one before it.
    assert holm({"a": 0.04, "b": 0.01, "c": None, "d": 0.03}) == pytest.approx(
        {"a": 0.06, "b": 0.03, "c": None, "d": 0.06}
    )


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_raises_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    for name, p in p_values.items():
        assert p <= corrected[name] <= min(1.0, p * len(p_values)) or corrected[name] <= 1.0
        assert corrected[name] >= p
        assert all(corrected[name] <= corrected[other] for other, q in p_values.items() if q > p)


def test_the_mark_is_strict():
    assert is_significant(0.0499)
    assert not is_significant(0.05)
    assert not is_significant(None)
