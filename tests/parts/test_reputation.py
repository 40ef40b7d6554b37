"""Reputation (RFFL) and class-wise cosines (ShapFed)."""

import math

import numpy as np
import pytest
import torch
from toy import Classifier

from fedlight.errors import ConfigError
from fedlight.parts.contribution import ClasswiseCosine, Reputation
from fedlight.submodels import ChannelCoverage, SubmodelPlan


def coverage_of(plan, kept):
    keep = torch.zeros(10, dtype=torch.bool)
    keep[list(kept)] = True
    return ChannelCoverage(plan.structure, keep)


def arrive(plan, make_update, client, bias):
    coverage = coverage_of(plan, range(10))
    update = make_update(coverage, client)
    update.delta = {name: torch.zeros_like(value) for name, value in update.delta.items()}
    update.delta["a.bias"] = torch.tensor(bias)
    return coverage, update


def run_round(part, state, arrivals):
    weights = part.weights(state, [update.client for _, update in arrivals])
    part.begin(state)
    for coverage, update in arrivals:
        if weights[update.client] > 0:
            part.add(coverage, update, weights[update.client])
    part.finish(lambda tensor: None)
    scores = {u.client: part.score(coverage, u) for coverage, u in arrivals if weights[u.client] > 0}
    part.observe(state, scores)
    return scores


def test_reputation_moves_as_written(plan, make_state):
    part = Reputation(moving_average=0.9, patience=10)
    state = make_state(num_examples=np.array([30, 10]))
    assert part.weights(state, [0, 1]) == {0: 0.5, 1: 0.5}
    part.observe(state, {0: 0.8, 1: 0.4})
    # .9 · .5 + .1 · ψ = .53 and .49
    assert part.weights(state, [0, 1]) == pytest.approx({0: 0.53 / 1.02, 1: 0.49 / 1.02})


def test_who_disagrees_is_removed_after_the_grace_and_for_good(plan, make_state, make_update):
    part = Reputation(moving_average=0.5, patience=3)
    arrivals = [arrive(plan, make_update, n, [1.0, sign, 0.0, 0.0]) for n, sign in enumerate((1.0, 1.1, 0.9))]
    arrivals[2][1].delta["a.bias"].neg_()
    three = np.array([10, 10, 10])
    for round_idx in range(6):
        weights = part.weights(make_state(round_idx, num_examples=three), range(3))
        assert (weights[2] > 0) == (round_idx <= 3)
        assert sum(weights.values()) == pytest.approx(1.0)
        run_round(part, make_state(round_idx, num_examples=three), arrivals)
    assert part.metrics() == {"contribution/removed_clients": 1.0}
    again = Reputation()
    again.load_state_dict(part.state_dict())
    assert again.weights(make_state(num_examples=three), range(3)) == part.weights(
        make_state(num_examples=three), range(3)
    )


def test_symmetric_clients_keep_equal_reputations_and_the_best_always_stays(plan, make_state, make_update):
    part, two = Reputation(threshold=0.99, patience=0), np.array([10, 10])
    part.observe(make_state(num_examples=two), {0: 0.5, 1: 0.5})
    assert part.weights(make_state(num_examples=two), [0, 1]) == {0: 0.5, 1: 0.5}
    for _ in range(5):
        part.observe(make_state(num_examples=two), {0: -1.0, 1: -0.9})
    assert part.weights(make_state(num_examples=two), [0, 1]) == {0: 0.0, 1: 1.0}


def test_reputation_of_absent_clients_stays(make_state):
    part, four = Reputation(), np.full(4, 10)
    part.observe(make_state(num_examples=four), {1: 0.9, 3: 0.1})
    weights = part.weights(make_state(num_examples=four), range(4))
    assert (weights[0], weights[2]) == (0.25, 0.25)
    assert weights[1] + weights[3] == pytest.approx(0.5)


@pytest.fixture(scope="module")
def classes():
    torch.manual_seed(0)
    module = Classifier()
    plan = SubmodelPlan.trace(module, (torch.randn(4, 3),))
    assert plan.output_rows == ("out.weight", "out.bias")
    return plan, module.state_dict()


def of_classes(plan, make_update, client, weight, bias):
    """An update of the last layer (2 classes, 16 inputs), the first two inputs given."""
    coverage = ChannelCoverage(plan.structure, torch.ones(plan.num_units, dtype=torch.bool))
    update = make_update(coverage_stub(coverage), client)
    rows = torch.zeros(2, 16)
    rows[:, :2] = torch.tensor(weight)
    update.delta = {"out.weight": rows, "out.bias": torch.tensor(bias)}
    return coverage, update


def coverage_stub(coverage):
    class Stub:
        def thin_shape(self, name):
            return (1,)

    return Stub()


def test_rows_of_the_last_layer_by_hand(classes, make_state, make_update):
    """Class 0: (3, 4, 0) against (3, 4, 0) + (5, 0, 0) at equal weights; class 1: client 1 has no example of it."""
    plan, weights = classes
    state = make_state(plan=plan, weights=weights, num_examples=np.array([10, 10]))
    arrivals = [
        of_classes(plan, make_update, 0, [[3.0, 4.0], [0.0, 0.0]], [0.0, 2.0]),
        of_classes(plan, make_update, 1, [[5.0, 0.0], [0.0, 0.0]], [0.0, 0.0]),
    ]
    part = ClasswiseCosine(moving_average=0.5)
    scores = run_round(part, state, arrivals)
    length = math.sqrt(8**2 + 4**2)
    assert scores == pytest.approx({0: ((3 * 8 + 4 * 4) / (5 * length) + 1) / 2, 1: (8 / length + 0) / 2})
    moved = {n: 0.25 + 0.5 * scores[n] for n in scores}
    assert part.weights(state, [0, 1]) == pytest.approx({n: moved[n] / sum(moved.values()) for n in moved})


def test_pruned_inputs_of_the_last_layer_count_only_in_full_support(classes, make_state, make_update):
    plan, weights = classes
    state = make_state(plan=plan, weights=weights, num_examples=np.array([10, 10]))
    full = of_classes(plan, make_update, 0, [[3.0, 4.0], [3.0, 4.0]], [0.0, 0.0])
    keep = torch.ones(plan.num_units, dtype=torch.bool)
    keep[1] = False  # the second hidden unit
    coverage = ChannelCoverage(plan.structure, keep)
    thin = make_update(coverage_stub(coverage), 1)
    rows = torch.zeros(2, 15)
    rows[:, 0] = 3.0
    thin.delta = {"out.weight": rows, "out.bias": torch.zeros(2)}
    covered, whole = (
        run_round(ClasswiseCosine(support), state, [full, (coverage, thin)]) for support in ("covered", "full")
    )
    assert covered[1] == pytest.approx(1.0)
    assert whole[1] == pytest.approx(6 / math.hypot(6, 4))
    assert covered[0] == pytest.approx(whole[0])


def test_models_without_a_last_layer_of_rows_are_refused(make_state, plan):
    plan.output_rows = ()
    with pytest.raises(ConfigError, match="ClasswiseCosine"):
        ClasswiseCosine().begin(make_state(plan=plan))


def test_wrong_options_are_refused():
    for option in (
        {"moving_average": 1.0}, {"threshold": 1.0}, {"patience": -1}, {"floor": 0.0}, {"support": "half"},
        {"threshold": float("nan")}, {"floor": float("inf")},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(option))):
            Reputation(**option)
    with pytest.raises(ConfigError, match="support"):
        ClasswiseCosine(support="half")
