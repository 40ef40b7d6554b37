import math

import numpy as np
import pytest
import torch

from fedlight.errors import ConfigError
from fedlight.parts.contribution import CosineGradient, SampleCount, Uniform
from fedlight.submodels import ChannelCoverage


def coverage_of(plan, kept):
    keep = torch.zeros(10, dtype=torch.bool)
    keep[list(kept)] = True
    return ChannelCoverage(plan.structure, keep)


def arrive(plan, make_update, kept, client, bias):
    """An update that is zero but for ``a.bias``, which has one entry per kept unit of the first group."""
    coverage = coverage_of(plan, kept)
    update = make_update(coverage, client)
    update.delta = {name: torch.zeros_like(value) for name, value in update.delta.items()}
    update.delta["a.bias"] = torch.tensor(bias)
    return coverage, update


def run_round(part, state, arrivals, reduce=lambda tensor: None):
    weights = part.weights(state, [update.client for _, update in arrivals])
    part.begin(state)
    for coverage, update in arrivals:
        part.add(coverage, update, weights[update.client])
    part.finish(reduce)
    scores = {update.client: part.score(coverage, update) for coverage, update in arrivals}
    part.observe(state, scores)
    return scores


def test_plain_weights(make_state):
    assert SampleCount().weights(make_state(), [0, 5]) == {0: 10.0, 5: 15.0}
    assert Uniform().weights(make_state(), [0, 5]) == {0: 1.0, 5: 1.0}


@pytest.mark.parametrize("support", ["covered", "full"])
def test_two_clients_by_hand(support, plan, make_state, make_update):
    """Clients of 30 and 10 examples: r = ¾, ¼. Client 0 covers units 0, 1 and client 1 units 1, 2 of the first group.

    u_0 = (.6, .8, 0), u_1 = (0, 1, 0), so U = (.45, .85, 0), of length √.925.
    """
    state = make_state(num_examples=np.array([30, 10]))
    arrivals = [
        arrive(plan, make_update, (0, 1, 4), 0, [3.0, 4.0]),
        arrive(plan, make_update, (1, 2, 4), 1, [2.0, 0.0]),
    ]
    part = CosineGradient(support, moving_average=0.9)
    scores = run_round(part, state, arrivals)
    psi_0 = (0.6 * 0.45 + 0.8 * 0.85) / math.sqrt(0.925)  # client 0 covers all of U
    psi_1 = {"covered": 1.0, "full": 0.85 / math.sqrt(0.925)}[support]  # M_1 U = (.85, 0) points as u_1 does
    assert scores == pytest.approx({0: psi_0, 1: psi_1})
    moved = [0.9 * 0.75 + 0.1 * psi_0, 0.9 * 0.25 + 0.1 * psi_1]
    assert part.weights(state, [0, 1]) == pytest.approx({0: moved[0] / sum(moved), 1: moved[1] / sum(moved)})


def test_both_supports_agree_at_full_coverage(plan, make_state, make_update):
    arrivals = [(coverage := coverage_of(plan, range(10)), make_update(coverage, client)) for client in range(3)]
    covered, full = (run_round(CosineGradient(support), make_state(), arrivals) for support in ("covered", "full"))
    assert covered == pytest.approx(full)


def test_a_full_cosine_is_bounded_by_the_share_that_is_covered(plan, make_state, make_update):
    kept = [range(10), range(10), (0, 4)]
    arrivals = [(coverage := coverage_of(plan, units), make_update(coverage, n)) for n, units in enumerate(kept)]
    part = CosineGradient("full")
    scores = run_round(part, make_state(), arrivals)
    direction = {name: part._direction.values[name] for name in arrivals[2][1].delta}
    energy = sum(float(value.square().sum()) for value in direction.values())
    held = sum(float(arrivals[2][0].gather(name, value).square().sum()) for name, value in direction.items())
    assert abs(scores[2]) <= math.sqrt(held / energy) + 1e-9


def test_a_dissenter_falls_to_the_floor_and_stays_above_zero(plan, make_state, make_update):
    state = make_state(num_examples=np.array([10, 10, 10]))
    part = CosineGradient(moving_average=0.5, floor=1e-3)
    arrivals = [
        arrive(plan, make_update, range(10), n, [1.0, sign, 0.0, 0.0]) for n, sign in enumerate((1.0, 1.2, 0.9))
    ]
    arrivals[2][1].delta["a.bias"].neg_()
    for _ in range(6):
        run_round(part, state, arrivals)
    weights = part.weights(state, [0, 1, 2])
    assert 0 < weights[2] < 1e-3
    assert weights[0] + weights[1] + weights[2] == pytest.approx(1.0)


def test_a_round_of_some_leaves_the_others_their_share(plan, make_state, make_update):
    state = make_state(num_examples=np.array([10, 20, 30, 40]))
    part = CosineGradient()
    arrivals = [(coverage := coverage_of(plan, range(10)), make_update(coverage, n)) for n in (1, 3)]
    run_round(part, state, arrivals)
    weights = part.weights(state, range(4))
    assert (weights[0], weights[2]) == (0.1, 0.3)
    assert weights[1] + weights[3] == pytest.approx(0.6)
    assert part.state_dict()["clients"].tolist() == [1, 3]


def test_updates_of_zeros_score_zero(plan, make_state, make_update):
    arrivals = [arrive(plan, make_update, range(10), n, [0.0] * 4) for n in range(2)]
    assert run_round(CosineGradient(), make_state(), arrivals) == {0: 0.0, 1: 0.0}


def test_contributions_survive_a_restart(plan, make_state, make_update):
    first, second = CosineGradient(), CosineGradient()
    arrivals = [(coverage := coverage_of(plan, range(10)), make_update(coverage, n)) for n in range(3)]
    run_round(first, make_state(), arrivals)
    second.load_state_dict(first.state_dict())
    for part in (first, second):
        run_round(part, make_state(1), arrivals[1:])
    assert first.weights(make_state(), range(5)) == second.weights(make_state(), range(5))


def test_processes_add_up_to_the_run_of_one(plan, make_state, make_update, two_processes):
    kept = [range(10), (0, 1, 4, 5), (2, 3, 6)]
    arrivals = [(coverage := coverage_of(plan, units), make_update(coverage, n)) for n, units in enumerate(kept)]
    single = run_round(CosineGradient(), make_state(), arrivals)
    for shares in ([arrivals[:1], arrivals[1:]], [arrivals, []]):
        results = two_processes(
            lambda rank, reduce, s=shares: run_round(CosineGradient(), make_state(), s[rank], reduce)
        )
        assert {**results[0], **results[1]} == pytest.approx(single, rel=1e-12)


def test_wrong_options_are_refused():
    for option in (
        {"support": "half"},
        {"moving_average": 1.0},
        {"floor": 0.0},
        {"floor": math.inf},
        {"convention": "own"},
        {"start": "late"},
    ):
        with pytest.raises(ConfigError, match=next(iter(option))):
            CosineGradient(**option)


def test_the_official_average_moves_faster_than_gamma_says(plan, make_state, make_update):
    """[S] of methods_bandit_contribution.md §7.4: ten clients, mean ψ .6, γ .95: what is new weighs 24 %, not 5 %."""
    psi = {client: 0.35 + client / 18 for client in range(10)}
    assert sum(psi.values()) == pytest.approx(6.0)
    moved = {}
    for convention, new in (("official", 0.24), ("normalised", 0.05)):
        part = CosineGradient(convention=convention)
        state = make_state(num_examples=np.full(10, 10))
        part.observe(state, psi)
        moved[convention] = part.weights(state, range(10))
        assert moved[convention] == pytest.approx({n: (1 - new) * 0.1 + new * psi[n] / 6 for n in range(10)})


def test_starting_from_nothing_the_first_shares_are_those_of_psi(make_state):
    part = CosineGradient(start="nothing")
    state = make_state(num_examples=np.array([70, 20, 10]))
    assert part.weights(state, range(3)) == pytest.approx({0: 0.7, 1: 0.2, 2: 0.1})  # t = 0: n_i / Σ n
    part.observe(state, {0: 0.2, 1: 0.4, 2: 0.2})
    assert part.weights(state, range(3)) == pytest.approx({0: 0.25, 1: 0.5, 2: 0.25})


def test_normalised_psi_ignores_who_disagrees(make_state):
    part = CosineGradient(convention="normalised", moving_average=0.0, floor=1e-6)
    state = make_state(num_examples=np.array([10, 10]))
    part.observe(state, {0: 0.5, 1: -0.5})
    assert part.weights(state, range(2)) == pytest.approx({0: 1.0, 1: 0.0}, abs=1e-5)
    part.observe(state, {0: -0.5, 1: -0.5})
    assert part.weights(state, range(2)) == pytest.approx({0: 0.5, 1: 0.5})


def test_a_free_rider_that_replays_the_aggregate_is_not_found_out(plan, make_state, make_update):
    """Validation-free means trusting the majority: who returns the last aggregate agrees with everyone."""
    honest = [arrive(plan, make_update, range(10), n, [1.0, *noise]) for n, noise in enumerate(
        ([0.9, 0.0, 0.0], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]))]  # fmt: skip
    state, part = make_state(num_examples=np.full(4, 10)), CosineGradient()
    rider = arrive(plan, make_update, range(10), 3, [1.0, 0.3, 0.3, 0.3])
    scores = run_round(part, state, [*honest, rider])
    assert scores[3] > 0.95
    assert scores[3] > max(scores[client] for client in range(3))
