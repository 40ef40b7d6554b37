import math

import numpy as np
import pytest

from fedlight.errors import ConfigError
from fedlight.parts.ratio import EUCB, DiscountedUCB, PerClient, Reward, Shared


def bandits(ratios=None, discount=0.98, bonus_scale=1.0, by="round", **reward):
    return PerClient(DiscountedUCB(ratios, discount, bonus_scale, by), Reward(**({"value": "contribution"} | reward)))


def tallies(part, clients):
    """N and R̄ N of the clients' arms, as of their last play."""
    both = [part.memory(client)[1:].reshape(2, -1) for client in clients]
    return np.array([counts for counts, _ in both]), np.array([sums for _, sums in both])


def feed(part, make_state, make_report, round_idx, reports):
    """Reports are (client, ratio, total_s, contribution)."""
    part.observe(make_state(round_idx), [make_report(c, r, s, contribution=v) for c, r, s, v in reports])


def test_rewards_by_hand(make_state, make_report):
    """Times 1, 2, 3, mean 2; gains .2, .1, .4 over distances 1, floor·2 = .5 and 1: .2, .2, .4, mapped to 0, 0, 1."""
    part = bandits([0.0, 0.5], floor=0.25)
    feed(part, make_state, make_report, 0, [(n, 0.5, 1.0 + n, 0.1) for n in range(3)])
    assert not part.state_dict()["clients"].tolist()  # nothing to compare with yet
    feed(part, make_state, make_report, 1, [(n, 0.5, 1.0 + n, v) for n, v in enumerate((0.3, 0.2, 0.5))])
    assert part.state_dict()["clients"].tolist() == [0, 1, 2]
    counts, sums = tallies(part, range(3))
    np.testing.assert_allclose(counts, [[0, 1], [0, 1], [0, 1]])
    np.testing.assert_allclose(sums, [[0, 0], [0, 0], [0, 1]], atol=1e-12)
    # two rounds later clients 0 and 2 alone: gains 0 and -1, mapped to 1 and 0, the past weighs .98²
    feed(part, make_state, make_report, 3, [(0, 0.0, 1.0, 0.3), (2, 0.5, 3.0, -0.5)])
    counts, sums = tallies(part, range(3))
    np.testing.assert_allclose(counts, [[1, 0.98**2], [0, 1], [0, 1 + 0.98**2]])
    np.testing.assert_allclose(sums, [[1, 0], [0, 0], [0, 0.98**2]], atol=1e-12)


def test_the_past_fades_by_round_or_by_play(make_state, make_report):
    weights = {}
    for by in ("round", "play"):
        part = bandits([0.0, 0.5], discount=0.5, by=by)
        for round_idx in (0, 1, 5):
            feed(part, make_state, make_report, round_idx, [(0, 0.5, 1.0, 0.1), (1, 0.0, 2.0, 0.2)])
        weights[by] = tallies(part, [0])[0][0, 1]
    assert weights == {"round": 1 + 0.5**4, "play": 1.5}


def test_every_arm_is_played_once_before_any_twice(make_state, make_report):
    part, played = bandits(), []
    for round_idx in range(6):
        ratio = part.choose(make_state(round_idx), [4])[4]
        played.append(ratio)
        feed(part, make_state, make_report, round_idx, [(4, ratio, 1.0, 0.1 * round_idx), (5, 0.0, 3.0, 0.1)])
    assert sorted(played[1:]) == [0.0, 0.2, 0.4, 0.6, 0.8]  # the first play has nothing to compare with


def test_a_rejected_play_counts_and_is_rewarded_nothing(make_state, make_report):
    part = bandits([0.0, 0.5], discount=0.5)
    part.observe(make_state(0), [make_report(0, 0.5, accepted=False), make_report(1, 0.0, contribution=0.1)])
    part.observe(make_state(1), [make_report(0, 0.5, contribution=0.1), make_report(1, 0.0, contribution=math.inf)])
    assert part.state_dict()["clients"].tolist() == [0, 1]
    counts, sums = tallies(part, range(2))
    assert counts.tolist() == [[0.0, 1.0], [1.0, 0.0]]  # client 0's second return is its first value
    assert not sums.any()
    assert part.metrics() == {
        "bandit/arms": 2.0,
        "bandit/plays/0": 1.0, "bandit/reward/0": 0.0, "bandit/plays/0.5": 0.5, "bandit/reward/0.5": 0.0,
    }  # fmt: skip
    assert part.choose(make_state(2), [0]) == {0: 0.0}


def test_a_bandit_leaves_the_arm_that_diverges(make_state, make_report):
    """Ratio 0 is always rejected for client 0: it is tried, and tried again now and then."""
    part, played = bandits(bonus_scale=0.25), []
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
    ("value", "way_out"),
    [
        ("contribution", "CosineGradient"),
        ("local_loss", "return the loss from training_step"),
        ("global_loss", "return the loss from training_step"),
    ],
)
def test_a_bandit_without_a_value_says_so(value, way_out, make_state, make_report):
    part = bandits([0.0, 0.5], value=value)
    part.observe(make_state(0), [])
    part.observe(make_state(0), [make_report(0, 0.5, accepted=False)])  # this says nothing of the others
    with pytest.raises(ConfigError, match=way_out):
        part.observe(make_state(1), [make_report(0, 0.5), make_report(1, 0.5)])


def test_a_client_without_a_value_is_passed_over(make_state, make_report):
    part = bandits([0.0, 0.5])
    feed(part, make_state, make_report, 0, [(0, 0.5, 1.0, 0.1), (1, 0.5, 1.0, None)])
    feed(part, make_state, make_report, 1, [(1, 0.5, 1.0, None)])
    assert not part.state_dict()["clients"].tolist()
    assert part.reward.state_dict()["clients"].tolist() == [0]


def shared():
    return Shared(EUCB(0.0, 0.8), Reward("contribution", per="round_s"))


@pytest.mark.parametrize("make", [bandits, lambda: PerClient(EUCB(), Reward("contribution")), shared])
def test_bandits_survive_a_restart(make, make_state, make_report):
    first, second = make(), make()

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


def test_a_checkpoint_of_other_arms_is_refused(make_state, make_report):
    part = bandits()
    for round_idx in range(2):
        feed(part, make_state, make_report, round_idx, [(0, 0.2, 1.0, 0.1), (1, 0.2, 2.0, 0.2)])
    with pytest.raises(ConfigError, match="have 5 arms, ratios has 2"):
        bandits([0.0, 0.5]).load_state_dict(part.state_dict())


def test_agents_exist_for_clients_that_have_learnt_something(make_state, make_report):
    part = bandits()
    state = make_state(0)
    assert len(part.choose(state, range(50_000, 51_000))) == 1000
    assert not part._memory
    for round_idx in range(2):
        feed(part, make_state, make_report, round_idx, [(n, 0.2, 1.0, 0.1) for n in (5, 99_999)])
    assert part.state_dict()["clients"].tolist() == [5, 99_999]


def test_more_arms_than_a_client_can_try_are_refused():
    with pytest.raises(ConfigError, match="7 arms"):
        bandits([n / 10 for n in range(7)])
    Shared(DiscountedUCB([n / 10 for n in range(7)]))  # all clients together can


def test_one_agent_for_all_is_rewarded_by_the_round(make_state, make_report):
    """Mean loss, weighted by 10 and 30 examples: 2, then 1, then .25; rounds last 4 and 2 s: ¼, then .375."""
    part = Shared(DiscountedUCB([0.0, 0.5]), Reward("global_loss", per="round_s", normalise="none"))
    for round_idx, (losses, ratio, last_s) in enumerate([((2, 2), 0.0, 9.0), ((1, 1), 0.5, 4.0), ((1, 0), 0.5, 2.0)]):
        state = make_state(round_idx)
        assert len(set(part.choose(state, range(4)).values())) == 1
        part.observe(
            state,
            [
                make_report(n, ratio, s, num_examples=size, metrics={"train/loss": float(loss)})
                for n, loss, s, size in zip(range(2), losses, (1.0, last_s), (10, 30), strict=True)
            ],
        )
    counts, sums = part.state_dict()["memory"][1:].reshape(2, -1)
    np.testing.assert_allclose(counts, [0, 1 + 0.98])
    np.testing.assert_allclose(sums, [0, 0.25 * 0.98 + 0.375])
    assert part.choose(make_state(3), [0, 1]) == {0: 0.0, 1: 0.0}  # never rewarded, so it comes first


def test_one_reward_for_all_needs_a_common_denominator():
    with pytest.raises(ConfigError, match="per='gap' is a client's own"):
        Shared(EUCB(), Reward("local_loss"))
