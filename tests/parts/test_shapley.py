"""Contributions by the server's own examples: games by hand, and coalitions that merge as the round does."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.core.coalitions import Coalitions, Member
from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts import (
    CoverageMean,
    GTGShapley,
    HeldOutAccuracy,
    Judge,
    LeaveOneOut,
    ResidualRecovery,
    ShapleyExact,
    TruncatedMonteCarlo,
)
from fedlight.parts.contribution import games
from fedlight.parts.contribution.judge import CoalitionValue
from fedlight.submodels import ChannelCoverage


def game(seed, size=4):
    """A random game: every coalition's value drawn once."""
    values = {}

    def value(clients):
        key = frozenset(clients)
        if key not in values:
            values[key] = float(np.random.default_rng([seed, *sorted(key)]).normal())
        return values[key]

    return list(range(size)), value


# Games --------------------------------------------------------------------------------------------------------------


def test_gloves_by_hand():
    """One left glove (player 0), two right ones: a pair is worth 1. φ = (⅔, ⅙, ⅙)."""
    shapley = games.exact([0, 1, 2], lambda s: float(0 in s and len(s) > 1))
    assert shapley == pytest.approx({0: 2 / 3, 1: 1 / 6, 2: 1 / 6})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_exact_values_keep_the_axioms(seed, size):
    players, value = game(seed, size)
    shapley = games.exact(players, value)
    assert sum(shapley.values()) == pytest.approx(value(players) - value(()))  # efficiency
    _, other = game(seed + 5000, size)
    both = games.exact(players, lambda s: value(s) + other(s))  # additivity
    assert both == pytest.approx({p: shapley[p] + games.exact(players, other)[p] for p in players})
    null = games.exact([*players, 99], lambda s: value(s - {99}))  # null player
    assert null[99] == pytest.approx(0.0)
    assert {p: null[p] for p in players} == pytest.approx(shapley)
    alike = games.exact(players, lambda s: value(range(len(s))))  # symmetry
    assert max(alike.values()) == pytest.approx(min(alike.values()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(5)))
def test_marginals_of_a_permutation_telescope(seed, order):
    """§10.8: un-rescaled and un-truncated, they sum to v(N) - v(∅)."""
    players, value = game(seed, 5)
    gain = value(players) - value(())
    assert sum(games.guided_marginals(order, value, 0.0).values()) == pytest.approx(gain)
    assert sum(games.truncated_marginals(order, value, 0.0, 5).values()) == pytest.approx(gain)


def test_truncation_within_a_permutation_checks_every_position():
    """v climbs to within .05 of v(N) = 1 at the second player, moves away at the third: with tolerance .1 the third and
    the fourth aren't judged, since v stays where it was.
    """
    values = {0: 0.0, 1: 0.5, 2: 0.95, 3: 0.2, 4: 1.0}
    asked = []

    def value(s):
        asked.append(len(s))
        return values[len(s)]

    assert games.guided_marginals([3, 1, 0, 2], value, 0.1) == pytest.approx({3: 0.5, 1: 0.45, 0: 0.0, 2: 0.0})
    assert asked == [4, 0, 1, 2]


def test_tmc_stops_after_more_than_patience_positions_in_a_row():
    value = lambda s: min(len(s), 2) / 2  # noqa: E731 - the whole value after two players
    assert games.truncated_marginals(range(6), value, 0.01, 0) == {0: 0.5, 1: 0.5, 2: 0.0, 3: 0.0, 4: 0.0, 5: 0.0}
    asked = []
    games.truncated_marginals(range(9), lambda s: (asked.append(len(s)), value(s))[1], 0.01, 2)
    assert max(asked[2:]) == 4  # players 2, 3, 4 are near: three in a row, more than two


def test_guided_orders_let_everyone_lead_in_turn():
    orders = games.guided_orders([4, 7, 9], np.random.default_rng(0))
    drawn = [next(orders) for _ in range(6)]
    assert [order[0] for order in drawn] == [4, 7, 9, 4, 7, 9]
    assert all(sorted(order) == [4, 7, 9] for order in drawn)


def test_means_over_permutations_come_close_to_the_exact_values():
    players, value = game(3)
    exact = games.exact(players, value)
    rng = np.random.default_rng(0)
    for orders in (games.random_orders(players, rng), games.guided_orders(players, rng)):
        means = games.mean_marginals(
            players, orders, lambda o: games.guided_marginals(o, value, 0.0), min_orders=2000, max_orders=2000
        )
        assert means == pytest.approx(exact, abs=0.1)


# Rounds -------------------------------------------------------------------------------------------------------------


class Target:
    """A desk whose loss is the squared distance of ``a.bias`` to (1, 1, 1, 1), and whose accuracy is 1 minus it."""

    def __init__(self):
        self.num_evaluations = 0

    def score(self, weights, metric, half="all"):
        self.num_evaluations += 1
        loss = float((weights["a.bias"].double() - 1).square().mean())
        return {"val/loss": loss, "val/accuracy": 1 - loss}[metric]


def coverage_of(plan, kept=range(10)):
    keep = torch.zeros(10, dtype=torch.bool)
    keep[list(kept)] = True
    return ChannelCoverage(plan.structure, keep)


def arrive(plan, make_update, client, bias, kept=range(10)):
    coverage = coverage_of(plan, kept)
    update = make_update(coverage, client)
    update.delta = {"a.bias": torch.tensor(bias)}
    update.buffers = {}
    return coverage, update


@pytest.fixture
def judged(plan, make_state, make_update, weights):
    """A state with a desk, and a function that makes coalitions of the members given as (bias, units, weight)."""
    weights["a.bias"] = torch.zeros(4)
    state = make_state(weights=weights, desk=Target())

    def coalitions(*given, aggregation=None):
        members = []
        for client, (bias, kept, weight) in enumerate(given):
            coverage, update = arrive(plan, make_update, client, bias, kept)
            job = Job(client, 0, 0.0, coverage, Work(1.0, 1, 1), Timing(0, 1, 0), 0.0, update)
            members.append(Member(job, update, weight))
        aggregation = aggregation or CoverageMean()
        made = Coalitions(state, members, {}, aggregation)
        return Coalitions(state, members, copy.deepcopy(made.merge(made.clients)), aggregation)

    return state, coalitions


ALL = range(10)
FOUR = (
    ([0.5] * 4, ALL, 1.0),
    ([1.0, 0.0, 0.0, 0.0], ALL, 2.0),
    ([0.0, 0.2, 0.3, 0.1], ALL, 1.0),
    ([0.0] * 4, ALL, 1.0),
)


@pytest.mark.parametrize("aggregation", [CoverageMean, ResidualRecovery])
def test_coalitions_merge_as_the_algorithm_does(judged, aggregation):
    """Client 0 holds unit 0 alone and client 1 all: the coverage mean divides by who holds, R2SP by everyone."""
    state, coalitions = judged
    made = coalitions(([0.4], (0, 4), 1.0), ([0.8] * 4, ALL, 3.0), aggregation=aggregation())
    divisor = {CoverageMean: 3.0, ResidualRecovery: 4.0}[aggregation]
    both = [(0.4 + 3 * 0.8) / 4, *[3 * 0.8 / divisor] * 3]
    assert made.weights({0, 1})["a.bias"].tolist() == pytest.approx(both)
    assert made.weights({0})["a.bias"].tolist() == pytest.approx([0.4, 0, 0, 0])
    assert made.weights(())["a.bias"].tolist() == [0.0] * 4
    assert made.weights({0, 1})["a.bias"].tolist() == pytest.approx(both)  # not what the last coalition left
    assert torch.equal(made.weights({1})["b.weight"], state.weights["b.weight"])
    assert made.aggregate["a.bias"].tolist() == pytest.approx(both)


def test_every_set_is_judged_once_and_a_broken_model_counts_as_nothing_learnt(judged):
    state, coalitions = judged
    made = coalitions(([0.5] * 4, ALL, 1.0), ([math.inf] * 4, ALL, 1.0))
    value = CoalitionValue(Judge(), state, made)
    assert value({0}) == value([0]) == -0.25
    assert value({1}) == value(()) == -1.0
    assert value.num_evaluations == state.desk.num_evaluations == 3


def test_leave_one_out_by_hand(judged):
    """v = -(1 - x)², x the mean of (.5, 1.1) → -.04; without 0: x = 1.1 → -.01; without 1: x = .5 → -.25."""
    state, coalitions = judged
    scores = LeaveOneOut().score_cohort(state, coalitions(([0.5] * 4, ALL, 1.0), ([1.1] * 4, ALL, 1.0)))
    assert scores == pytest.approx({0: -0.04 + 0.01, 1: -0.04 + 0.25})
    assert state.desk.num_evaluations == 3


def test_leave_one_out_misses_neither_of_two_twins(judged):
    state, coalitions = judged
    twins = ([0.5] * 4, ALL, 1.0)
    assert LeaveOneOut().score_cohort(state, coalitions(twins, twins)) == pytest.approx({0: 0.0, 1: 0.0})
    assert ShapleyExact().score_cohort(state, coalitions(twins, twins)) == pytest.approx(dict.fromkeys((0, 1), 0.375))


def test_exact_shapley_of_a_round_is_efficient(judged):
    state, coalitions = judged
    made = coalitions(*FOUR)
    scores = ShapleyExact().score_cohort(state, made)
    value = CoalitionValue(Judge(), state, made)
    assert sum(scores.values()) == pytest.approx(value(range(4)) - value(()))
    assert state.desk.num_evaluations == 16 + 2


def test_more_than_ten_clients_are_refused(make_state):
    with pytest.raises(ConfigError, match="clients_per_round to 10"):
        ShapleyExact().weights(make_state(), range(11))
    assert ShapleyExact().weights(make_state(), [0, 5]) == {0: 10.0, 5: 15.0}


def test_gtg_without_truncation_is_efficient_and_near_the_exact_values(judged):
    state, coalitions = judged
    exact = ShapleyExact().score_cohort(state, coalitions(*FOUR))
    part = GTGShapley(round_truncation=0, truncation=0, error=0, min_permutations=400, max_permutations=400)
    state.desk.num_evaluations = 0
    scores = part.score_cohort(state, coalitions(*FOUR))
    assert sum(scores.values()) == pytest.approx(sum(exact.values()))
    assert scores == pytest.approx(exact, abs=0.1)
    assert state.desk.num_evaluations <= 16
    assert part.score_cohort(state, coalitions(*FOUR)) == scores  # the draw is the round's own


def test_gtg_skips_rounds_of_no_gain(judged):
    state, coalitions = judged
    still = coalitions(([0.0] * 4, ALL, 1.0), ([1e-5] * 4, ALL, 1.0))
    assert GTGShapley().score_cohort(state, still) == {0: 0.0, 1: 0.0}
    assert state.desk.num_evaluations == 2


def test_the_published_rescale_breaks_efficiency_where_signs_are_mixed(judged):
    state, coalitions = judged
    mixed = (([0.9] * 4, ALL, 3.0), ([-0.5] * 4, ALL, 1.0))
    options = {"round_truncation": 0.0, "truncation": 0.0}
    plain = GTGShapley(**options).score_cohort(state, coalitions(*mixed))
    rescaled = GTGShapley(**options, rescale=True).score_cohort(state, coalitions(*mixed))
    gain = sum(plain.values())
    assert plain[0] > 0 > plain[1]
    assert rescaled[0] == pytest.approx(gain)
    assert sum(rescaled.values()) < gain - 1e-3
    same_sign = (([0.9] * 4, ALL, 3.0), ([0.5] * 4, ALL, 1.0))
    plain = GTGShapley(**options).score_cohort(state, coalitions(*same_sign))
    assert GTGShapley(**options, rescale=True).score_cohort(state, coalitions(*same_sign)) == pytest.approx(plain)


def test_truncated_monte_carlo_is_efficient_without_truncation(judged):
    state, coalitions = judged
    exact = ShapleyExact().score_cohort(state, coalitions(*FOUR))
    scores = TruncatedMonteCarlo(tolerance=0, error=0, max_permutations=300).score_cohort(state, coalitions(*FOUR))
    assert sum(scores.values()) == pytest.approx(sum(exact.values()))
    assert scores == pytest.approx(exact, abs=0.1)


def test_a_round_of_nobody_has_no_scores(judged):
    state, coalitions = judged
    for part in (LeaveOneOut(), ShapleyExact(), GTGShapley(), TruncatedMonteCarlo()):
        assert part.score_cohort(state, coalitions()) == {}


def test_held_out_accuracy_is_that_of_the_clients_own_model(plan, judged, make_update):
    """Client 0 holds units 0 and 1: its model is (.5, .5, 0, 0), and its loss the mean of (.25, .25, 1, 1)."""
    state, _ = judged
    part = HeldOutAccuracy()
    part.begin(state)
    assert part.score(*arrive(plan, make_update, 0, [0.5, 0.5], (0, 1, 4))) == pytest.approx(1 - 0.625)
    assert part.score(*arrive(plan, make_update, 0, [math.inf, 0.5], (0, 1, 4))) is None
    assert state.weights["a.bias"].tolist() == [0.0] * 4
    part.observe(state, {})
    assert part._state is None


def test_without_server_data_everyone_says_so(make_state):
    for part in (HeldOutAccuracy(), LeaveOneOut(), ShapleyExact(), GTGShapley(), TruncatedMonteCarlo()):
        assert part.needs_server_data
    with pytest.raises(ConfigError, match=r"data\.server_fraction"):
        Judge().utility(make_state(), {})


def test_a_judge_knows_which_way_is_up():
    assert [Judge(metric).sign for metric in ("val/loss", "val/accuracy", "val/mse")] == [-1.0, 1.0, -1.0]
    assert Judge("val/score", higher_is_better=False).sign == -1.0


def test_wrong_options_are_refused():
    for make in (
        lambda: Judge(half="train"), lambda: GTGShapley(truncation=-1), lambda: GTGShapley(max_permutations=0),
        lambda: GTGShapley(min_permutations=-1),
        lambda: TruncatedMonteCarlo(tolerance=-0.1), lambda: TruncatedMonteCarlo(error=float("nan")),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            make()
