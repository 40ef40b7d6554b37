"""What clients start from: sparsified rewards (CGSV)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.errors import ConfigError
from fedlight.parts import SparseRewards
from fedlight.parts.download import largest, quotas

AGGREGATE = {"a.bias": torch.tensor([1.0, -4.0, 2.0, -3.0]), "c.bias": torch.tensor([10.0, 20.0, -30.0])}


def moved(part, state, client):
    own = part.weights(state, client)
    return {name: (own[name] - state.weights[name]).tolist() for name in AGGREGATE}


def test_quotas_hardly_depend_on_altruism_in_its_usual_range():
    """[S] of methods_bandit_contribution.md §7.4, r = (.05, .1, .2, .3, .35)."""
    shares = dict(enumerate((0.05, 0.1, 0.2, 0.3, 0.35)))
    for altruism, expected in (
        (0.5, (0.144, 0.288, 0.575, 0.859, 1.0)), (2.0, (0.165, 0.327, 0.629, 0.889, 1.0)), (1e7, (1.0,) * 5),
    ):  # fmt: skip
        assert list(quotas(shares, altruism).values()) == pytest.approx(expected, abs=6e-4)
    scaled = {client: 7 * share for client, share in shares.items()}
    assert quotas(scaled, 2.0) == pytest.approx(quotas(shares, 2.0))
    assert quotas({}, 1.0) == {}


def test_rewards_by_layer_and_by_vector(make_state, weights):
    """Quota ½ by hand: ⌈½ · 4⌉ = 2 and ⌈½ · 3⌉ = 2 entries of the layers; ⌊½ · 7⌋ = 3 entries of the vector."""
    state = make_state(weights=weights)
    shares = {0: 1.0, 1: 3.0}
    quota = quotas(shares, 1e-6)  # tanh is linear there
    assert quota == pytest.approx({0: 1 / 3, 1: 1.0})
    shares = {0: 1.0, 1: 2.0}
    layer, vector = SparseRewards(1e-6, "layer"), SparseRewards(1e-6, "vector")
    for part in (layer, vector):
        part.observe(state, AGGREGATE, {}, shares)
        assert moved(part, state, 1)["a.bias"] == pytest.approx(AGGREGATE["a.bias"].tolist(), abs=1e-5)
        assert moved(part, state, 2)["c.bias"] == [0.0] * 3  # not in the round
    assert moved(layer, state, 0)["a.bias"] == pytest.approx([0.0, -4.0, 0.0, -3.0], abs=1e-5)
    assert moved(layer, state, 0)["c.bias"] == pytest.approx([0.0, 20.0, -30.0], abs=1e-5)
    assert moved(vector, state, 0)["a.bias"] == pytest.approx([0.0] * 4, abs=1e-5)
    assert moved(vector, state, 0)["c.bias"] == pytest.approx([10.0, 20.0, -30.0], abs=1e-5)
    assert layer.metrics() == pytest.approx({"reward/min_quota": 0.5, "reward/mean_quota": 0.75})


def test_models_drift_apart_and_survive_a_restart(make_state, weights):
    part, state = SparseRewards(1e-6), make_state(weights=weights)
    part.observe(state, AGGREGATE, {"stat": torch.ones(4)}, {0: 1.0, 1: 2.0})
    again = SparseRewards(1e-6)
    again.load_state_dict(part.state_dict())
    later = make_state(1, weights={name: value + 100 for name, value in weights.items()})
    for one in (part, again):
        one.observe(later, AGGREGATE, {}, {0: 1.0, 2: 1.0})
    for client in range(3):
        for name, value in part.weights(later, client).items():
            assert torch.equal(value, again.weights(later, client)[name])
    # client 0 kept its own model and was given all of the second round; 1 stays where it was; 2 began at the global one
    assert (part.weights(later, 0)["a.bias"] - weights["a.bias"]).tolist() == pytest.approx([1, -8, 2, -6], abs=1e-5)
    assert (part.weights(later, 1)["a.bias"] - weights["a.bias"]).tolist() == pytest.approx([1, -4, 2, -3], abs=1e-5)
    assert (part.weights(later, 2)["a.bias"] - weights["a.bias"] - 100).tolist() == pytest.approx(
        [1, -4, 2, -3], abs=1e-4
    )
    assert (part.weights(later, 0)["stat"] - weights["stat"]).tolist() == pytest.approx([1.0] * 4)  # buffers move whole
    assert later.weights["a.bias"] is not part.weights(later, 2)["a.bias"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8), st.integers(0, 9))
def test_the_largest_entries_stay(values, count):
    kept = largest(torch.tensor(values), count)
    order = sorted(map(abs, values), reverse=True)
    assert sorted(map(abs, kept.tolist()), reverse=True)[:count] == order[:count]
    assert sum(map(abs, kept.tolist())) == pytest.approx(sum(order[:count]), rel=1e-5)


def test_everything_for_everyone_is_the_global_model(make_state, weights):
    part, state = SparseRewards(1e7), make_state(weights=weights)
    part.observe(state, AGGREGATE, {}, {0: 0.9, 1: 0.05, 2: 0.05})
    for client in range(3):
        for name, value in AGGREGATE.items():
            assert torch.equal(part.weights(state, client)[name], weights[name] + value)


def test_wrong_options_are_refused():
    for option in ({"altruism": 0.0}, {"scope": "model"}, {"altruism": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            SparseRewards(**option)
