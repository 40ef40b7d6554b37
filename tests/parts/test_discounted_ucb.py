import math

import numpy as np
import pytest

from fedlight.errors import ConfigError
from fedlight.parts.ratio import DiscountedUCB
from fedlight.parts.ratio.arms import discounted, upper_bounds


def test_index_by_hand():
    """Arm 0 paid 1 at round 0 and 0 at round 2, arm 1 paid .5 at round 1, λ = ½, seen from round 3."""
    # N_0 = 1/8 + 1/2, N_1 = 1/4; sums 1/8 and 1/8; Σ N = 7/8, so its logarithm is clamped
    counts, sums = np.array([[0.25 + 1.0, 0.5]]), np.array([[0.25, 0.25]])  # as of round 2
    aged = [discounted(values, 0.5, np.array([1])) for values in (counts, sums)]
    np.testing.assert_allclose(aged[0], [[0.625, 0.25]])
    np.testing.assert_allclose(upper_bounds(*aged, 1.0), [[0.125 / 0.625, 0.125 / 0.25]])
    counts, sums = np.array([[4.0, 1.0]]), np.array([[2.0, 0.9]])
    expected = [[0.5 + 0.3 * math.sqrt(2 * math.log(5) / 4), 0.9 + 0.3 * math.sqrt(2 * math.log(5))]]
    np.testing.assert_allclose(upper_bounds(counts, sums, 0.3), expected)
    assert upper_bounds(np.array([[3.0, 0.0]]), np.zeros((1, 2)), 1.0)[0, 1] == np.inf


def feed(part, make_state, make_report, round_idx, reports):
    """Reports are (client, ratio, total_s, contribution)."""
    part.observe(make_state(round_idx), [make_report(c, r, s, contribution=v) for c, r, s, v in reports])


def test_rewards_by_hand(make_state, make_report):
    """Times 1, 2, 3, mean 2; gains .2, .1, .4 over distances 1, floor·2 = .5 and 1: .2, .2, .4, mapped to 0, 0, 1."""
    part = DiscountedUCB([0.0, 0.5], floor=0.25)
    feed(part, make_state, make_report, 0, [(n, 0.5, 1.0 + n, 0.1) for n in range(3)])
    assert part.state_dict()["counts"].sum() == 0  # nothing to compare with yet
    feed(part, make_state, make_report, 1, [(n, 0.5, 1.0 + n, v) for n, v in enumerate((0.3, 0.2, 0.5))])
    state = part.state_dict()
    assert state["clients"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(state["counts"].numpy(), [[0, 1], [0, 1], [0, 1]])
    np.testing.assert_allclose(state["sums"].numpy(), [[0, 0], [0, 0], [0, 1]], atol=1e-12)
    # two rounds later clients 0 and 2 alone: gains 0 and -1, mapped to 1 and 0, the past weighs .98²
    feed(part, make_state, make_report, 3, [(0, 0.0, 1.0, 0.3), (2, 0.5, 3.0, -0.5)])
    state = part.state_dict()
    np.testing.assert_allclose(state["counts"].numpy(), [[1, 0.98**2], [0, 1], [0, 1 + 0.98**2]])
    np.testing.assert_allclose(state["sums"].numpy(), [[1, 0], [0, 0], [0, 0.98**2]], atol=1e-12)


def test_the_past_fades_by_round_or_by_play(make_state, make_report):
    weights = {}
    for by in ("round", "play"):
        part = DiscountedUCB([0.0, 0.5], discount=0.5, by=by)
        for round_idx in (0, 1, 5):
            feed(part, make_state, make_report, round_idx, [(0, 0.5, 1.0, 0.1), (1, 0.0, 2.0, 0.2)])
        weights[by] = part.state_dict()["counts"][0, 1].item()
    assert weights == {"round": 1 + 0.5**4, "play": 1.5}


def test_equal_rewards_count_a_half(make_state, make_report):
    part = DiscountedUCB([0.0, 0.5])
    for round_idx in range(2):
        feed(part, make_state, make_report, round_idx, [(0, 0.5, 1.0, 0.1)])
    assert part.state_dict()["sums"][0].tolist() == [0.0, 0.5]


def test_local_loss_is_a_gain_when_it_falls(make_state, make_report):
    part = DiscountedUCB([0.0, 0.5], value="local_loss")
    for round_idx, losses in enumerate([(2.0, 2.0), (1.0, 1.5)]):
        reports = [make_report(c, 0.5, 1.0 + c, metrics={"train/loss": loss}) for c, loss in enumerate(losses)]
        part.observe(make_state(round_idx), reports)
    assert part.state_dict()["sums"][:, 1].tolist() == [1.0, 0.0]


def test_every_arm_is_played_once_before_any_twice(make_state, make_report):
    part, played = DiscountedUCB(), []
    for round_idx in range(6):
        ratio = part.choose(make_state(round_idx), [4])[4]
        played.append(ratio)
        feed(part, make_state, make_report, round_idx, [(4, ratio, 1.0, 0.1 * round_idx), (5, 0.0, 3.0, 0.1)])
    assert sorted(played[1:]) == [0.0, 0.2, 0.4, 0.6, 0.8]  # the first play has nothing to compare with


def test_a_rejected_play_counts_and_is_rewarded_nothing(make_state, make_report):
    part = DiscountedUCB([0.0, 0.5], discount=0.5)
    part.observe(make_state(0), [make_report(0, 0.5, accepted=False), make_report(1, 0.0, contribution=0.1)])
    part.observe(make_state(1), [make_report(0, 0.5, contribution=0.1), make_report(1, 0.0, contribution=math.inf)])
    state = part.state_dict()
    assert state["clients"].tolist() == [0, 1]
    assert state["counts"].tolist() == [[0.0, 1.0], [1.0, 0.0]]  # client 0's second return is its first value
    assert not state["sums"].any()
    assert part.metrics() == {
        "bandit/plays/0": 1.0, "bandit/reward/0": 0.0, "bandit/plays/0.5": 0.5, "bandit/reward/0.5": 0.0,
    }  # fmt: skip
    assert part.choose(make_state(2), [0]) == {0: 0.0}


def test_a_bandit_leaves_the_arm_that_diverges(make_state, make_report):
    """Ratio 0 is always rejected for client 0: it is tried, and tried again now and then."""
    part, played = DiscountedUCB(bonus_scale=0.25), []
    for round_idx in range(60):
        chosen = part.choose(make_state(round_idx), [0, 1, 2])
        played.append(chosen[0])
        part.observe(
            make_state(round_idx),
            [
                make_report(n, r, 1.0 + n, contribution=math.sin(round_idx + n), accepted=(n, r) != (0, 0.0))
                for n, r in chosen.items()
            ],
        )
    assert 1 <= played.count(0.0) <= 12  # a fifth is what random play gives it


@pytest.mark.parametrize(
    ("value", "way_out"), [("contribution", "CosineGradient"), ("local_loss", "return the loss from training_step")]
)
def test_a_bandit_without_a_value_says_so(value, way_out, make_state, make_report):
    part = DiscountedUCB([0.0, 0.5], value=value)
    part.observe(make_state(0), [])
    part.observe(make_state(0), [make_report(0, 0.5, accepted=False)])  # this says nothing of the others
    with pytest.raises(ConfigError, match=way_out):
        part.observe(make_state(1), [make_report(0, 0.5), make_report(1, 0.5)])


def test_a_client_without_a_value_is_passed_over(make_state, make_report):
    part = DiscountedUCB([0.0, 0.5])
    feed(part, make_state, make_report, 0, [(0, 0.5, 1.0, 0.1), (1, 0.5, 1.0, None)])
    feed(part, make_state, make_report, 1, [(1, 0.5, 1.0, None)])
    assert part.state_dict()["clients"].tolist() == [0]
    assert not part.state_dict()["counts"].any()


def test_bandits_survive_a_restart(make_state, make_report):
    first, second = DiscountedUCB(), DiscountedUCB()

    def play(part, rounds):
        ratios = []
        for round_idx in rounds:
            chosen = part.choose(make_state(round_idx), [0, 1, 9])
            ratios.append(chosen)
            values = {n: math.sin(round_idx + n) - chosen[n] for n in chosen}
            feed(part, make_state, make_report, round_idx, [(n, chosen[n], 1.0 + n, values[n]) for n in chosen])
        return ratios

    play(first, range(12))
    second.load_state_dict(first.state_dict())
    assert first.metrics() == second.metrics()
    assert play(first, range(12, 24)) == play(second, range(12, 24))
    with pytest.raises(ConfigError, match="have 5 arms, ratios has 2"):
        DiscountedUCB([0.0, 0.5]).load_state_dict(first.state_dict())


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="7 arms"):
        DiscountedUCB([n / 10 for n in range(7)])
    for option in ({"discount": 0.0}, {"bonus_scale": -1.0}, {"value": "luck"}, {"by": "day"}, {"floor": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            DiscountedUCB(**option)


@pytest.mark.parametrize(
    ("discount", "published"),
    [
        (0.90, (0.570, 0.629, 0.707, 0.793)),
        (0.95, (0.598, 0.674, 0.759, 0.833)),
        (0.98, (0.635, 0.724, 0.804, 0.860)),
        (0.99, (0.656, 0.750, 0.826, 0.871)),
    ],
)
def test_mean_reward_of_a_stationary_bandit(discount, published):
    """Mean noise-free reward over 100 rounds of reward 1 - 2 |α - .45| + .1 ε, arms 0, .2, .4, .6, .8, bonus scaled by
    1, .5, .25, .1: an independent simulation's values, to a fiftieth. Random play gives .5."""
    arms, rng, num_agents = np.arange(5) * 0.2, np.random.default_rng(1), 300
    for bonus_scale, expected in zip((1.0, 0.5, 0.25, 0.1), published, strict=True):
        counts, sums, earned = np.zeros((num_agents, 5)), np.zeros((num_agents, 5)), 0.0
        rows, last = np.arange(num_agents), np.ones(num_agents, dtype=np.int64)
        for _ in range(100):
            counts, sums = discounted(counts, discount, last), discounted(sums, discount, last)
            played = upper_bounds(counts, sums, bonus_scale).argmax(axis=1)
            means = 1 - 2 * np.abs(arms[played] - 0.45)
            earned += means.mean() / 100
            counts[rows, played] += 1
            sums[rows, played] += means + 0.1 * rng.standard_normal(num_agents)
        assert earned == pytest.approx(expected, abs=0.02)
