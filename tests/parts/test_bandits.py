import math
import random

import numpy as np
import pytest

from fedlight.errors import ConfigError
from fedlight.parts.ratio import EUCB, UCB1, DiscountedUCB, SlidingWindowUCB, Thompson, UnimodalUCB
from fedlight.parts.ratio.bandits.arms import faded, upper_bounds

ALL = [UCB1, DiscountedUCB, SlidingWindowUCB, Thompson, UnimodalUCB, EUCB]


def draw_of(seed):
    return lambda: np.random.default_rng(seed)


def never():
    raise AssertionError("nothing is left to chance here")


def play(bandit, rounds, seed, reward_of, noise=0.1):
    """Ratios of one agent whose rewards are noisy."""
    rng = np.random.default_rng(seed)
    memory, ratios = bandit.start(), []
    for round_idx in range(rounds):
        ratio = bandit.select(memory, round_idx, lambda: rng)
        ratios.append(ratio)
        reward = reward_of(ratio) + noise * rng.standard_normal()
        memory = bandit.update(memory, round_idx, ratio, reward)
    return np.array(ratios), memory


def peak(ratio):
    """The toy of the tables below: 1 at ratio .45, falling by 2 per unit of ratio."""
    return 1 - 2 * np.abs(ratio - 0.45)


def test_index_by_hand():
    """Arm 0 paid 1 at round 0 and 0 at round 2, arm 1 paid .5 at round 1, λ = ½, seen from round 3."""
    # N_0 = 1/8 + 1/2, N_1 = 1/4; sums 1/8 and 1/8; Σ N = 7/8, so its logarithm is clamped
    counts, sums = np.array([0.25 + 1.0, 0.5]), np.array([0.25, 0.25])  # as of round 2
    aged = [faded(values, 0.5, 1) for values in (counts, sums)]
    np.testing.assert_allclose(aged[0], [0.625, 0.25])
    np.testing.assert_allclose(upper_bounds(*aged, 1.0), [0.125 / 0.625, 0.125 / 0.25])
    counts, sums = np.array([4.0, 1.0]), np.array([2.0, 0.9])
    expected = [0.5 + 0.3 * math.sqrt(2 * math.log(5) / 4), 0.9 + 0.3 * math.sqrt(2 * math.log(5))]
    np.testing.assert_allclose(upper_bounds(counts, sums, 0.3), expected)
    assert upper_bounds(np.array([3.0, 0.0]), np.zeros(2), 1.0)[1] == np.inf


def test_discounted_counts_by_hand():
    bandit = DiscountedUCB([0.0, 0.5], discount=0.5)
    memory = bandit.start()
    for round_idx, (ratio, reward) in enumerate([(0.0, 1.0), (0.5, 0.5), (0.0, 0.0)]):
        memory = bandit.update(memory, round_idx, ratio, reward)
    counts, sums = bandit.grid.tally(memory, 3)
    np.testing.assert_allclose(counts, [0.625, 0.25])
    np.testing.assert_allclose(sums, [0.125, 0.125])
    assert bandit.select(memory, 3, never) == 0.5
    assert [(arm.ratio, arm.plays, arm.rewards) for arm in bandit.statistics(memory, 2)] == [
        (0.0, 1.25, 0.25), (0.5, 0.5, 0.25),
    ]  # fmt: skip
    assert bandit.update(memory, 3, 0.7, 1.0) is memory  # no arm of ours


def test_a_window_forgets_at_once():
    for by, kept in (("round", [1.0, 1.0]), ("play", [2.0, 1.0])):
        bandit = SlidingWindowUCB([0.0, 0.5], window=3, by=by)
        memory = bandit.start()
        for round_idx, ratio in ((0, 0.5), (1, 0.0), (4, 0.5), (5, 0.0)):
            memory = bandit.update(memory, round_idx, ratio, ratio)
        assert [arm.plays for arm in bandit.statistics(memory, 5)] == kept
    assert len(memory) == 3 * 3


def test_ucb1_is_discounted_ucb_that_never_forgets():
    one = play(UCB1(), 80, 3, peak)[0]
    assert one.tolist() == play(DiscountedUCB(discount=1.0), 80, 3, peak)[0].tolist()


def test_thompson_believes_by_hand():
    """After rewards 1, 1 and 0: means (2 + ½) / 3 and ½ / 2, standard deviations s / √3 and s / √2."""
    bandit = Thompson([0.0, 0.5], bonus_scale=0.2)
    memory = bandit.start()
    for ratio, reward in ((0.0, 1.0), (0.0, 1.0), (0.5, 0.0)):
        memory = bandit.update(memory, 0, ratio, reward)
    rng = np.random.default_rng(0)
    share = np.mean([bandit.select(memory, 0, lambda: rng) == 0.5 for _ in range(4000)])
    gap, sd = 2.5 / 3 - 0.25, 0.2 * math.sqrt(1 / 3 + 1 / 2)
    assert share == pytest.approx(0.5 * math.erfc(gap / sd / math.sqrt(2)), abs=0.003)


def test_unimodal_plays_the_leader_or_its_neighbours():
    bandit = UnimodalUCB([0.0, 0.2, 0.4, 0.6, 0.8])
    memory = bandit.start()
    assert bandit.select(memory, 0, draw_of(0)) in (0.2, 0.4, 0.6)  # around the middle
    ratios, memory = play(bandit, 200, 0, peak)
    assert np.mean(ratios == 0.4) > 0.5
    assert memory[-5:].sum() == 200  # somebody led in every round
    leads = memory[-5:].copy()
    leads[2] = 3.0
    assert bandit.select(np.concatenate([memory[:-5], leads]), 200, never) == 0.4  # every third lead is played


def test_unimodal_counts_the_lead_that_it_decides():
    """l = 2: a neighbour, 0 + sqrt(2 ln 2) = 1.18, beats the leader, .5 + sqrt(2 ln 2 / 4) = 1.09; at l = 1, no."""
    bandit = UnimodalUCB([0.2, 0.4, 0.6])
    memory = bandit.start()
    for ratio, reward in ((0.4, 0.5), (0.4, 0.5), (0.4, 0.5), (0.4, 0.5), (0.2, 0.0), (0.6, 0.0)):
        memory = bandit.update(memory, 0, ratio, reward)
    memory[-3:] = (0.0, 1.0, 0.0)
    assert bandit.select(memory, 0, draw_of(0)) in (0.2, 0.6)


def test_eucb_splits_where_it_plays():
    """θ = .3 over [0, .8): splits at .5 and .2; .7 lies in a leaf that is just wide enough, .6 in one that isn't."""
    bandit = EUCB(0.0, 0.8, discount=0.5, granularity=0.29)
    memory = bandit.start()
    borders = []
    for round_idx, ratio in enumerate((0.5, 0.2, 0.7, 0.6, 0.3)):
        memory = bandit.update(memory, round_idx, ratio, ratio)
        borders.append(bandit.borders(memory).tolist())
    assert borders[0] == [0.0, 0.5, 0.8]
    assert borders[1] == [0.0, 0.2, 0.5, 0.8]
    assert borders[2] == [0.0, 0.2, 0.5, 0.7, 0.8]
    assert borders[3] == borders[2]
    assert borders[4] == [0.0, 0.2, 0.3, 0.5, 0.7, 0.8]
    assert bandit.num_arms(memory) == 5


def test_eucb_samples_follow_their_place():
    """.45 and .1 were played while one leaf held both; after a split at .3 each counts where it lies."""
    bandit = EUCB(0.0, 0.8, discount=0.5, granularity=0.5)
    memory = bandit.start()
    for round_idx, (ratio, reward) in enumerate([(0.3, 1.0), (0.45, 0.5), (0.1, 0.25)]):
        memory = bandit.update(memory, round_idx, ratio, reward)
    assert bandit.borders(memory).tolist() == [0.0, 0.3, 0.8]
    counts, sums = bandit._tally(memory.reshape(-1, 4), bandit.borders(memory), 3.0)
    np.testing.assert_allclose(counts, [0.5, 0.125 + 0.25])
    np.testing.assert_allclose(sums, [0.125, 0.125 + 0.125])
    # Σ N = .875 < 1, so there is no bonus: means ¼ and ⅔
    assert 0.3 <= bandit.select(memory, 3, draw_of(1)) < 0.8


def test_eucb_forgets_what_has_faded_but_keeps_its_leaves():
    bandit = EUCB(discount=0.5)
    _, memory = play(bandit, 300, 0, peak)
    assert bandit.num_arms(memory) > 8
    assert len(memory) // 4 < bandit.num_arms(memory) + 32  # .5 ** 30 is less than a billionth


def test_eucb_of_no_width_is_a_constant():
    bandit = EUCB(0.3, 0.3)
    assert bandit.select(bandit.update(bandit.start(), 0, 0.3, 1.0), 1, draw_of(0)) == 0.3


@pytest.mark.parametrize("kind", ALL)
def test_ratios_are_ratios_and_chance_comes_from_its_seed(kind):
    bandit = kind()
    ratios, memory = play(bandit, 60, 5, peak)
    assert ((ratios >= 0) & (ratios <= 0.8)).all()
    assert ratios.tolist() == play(kind(), 60, 5, peak)[0].tolist()
    bandit.check(memory)
    before = memory.copy()
    bandit.update(memory, 60, float(ratios[-1]), 1.0)
    assert memory.tolist() == before.tolist()  # memories are values


@pytest.mark.parametrize("kind", ALL)
def test_the_peak_is_found_in_300_plays(kind):
    options = {} if kind in (UCB1, SlidingWindowUCB) else {"discount": 0.99}
    bandit = kind(bonus_scale=0.2, **options)
    near = np.mean([np.abs(play(bandit, 300, seed, peak)[0][-75:] - 0.45).mean() for seed in range(4)])
    assert near < 0.13  # random play: .204


@pytest.mark.parametrize("kind", [DiscountedUCB, UCB1, SlidingWindowUCB, Thompson, UnimodalUCB])
def test_grids_refuse_what_is_no_arm(kind):
    with pytest.raises(ConfigError, match="ratios is empty"):
        kind([])
    with pytest.raises(ConfigError, match=r"ratios\[1\]=1.2 is outside"):
        kind([0.0, 1.2])
    with pytest.raises(ConfigError, match="bonus_scale=-1"):
        kind(bonus_scale=-1.0)
    with pytest.raises(ConfigError, match="resume with"):
        kind([0.0, 0.5]).check(play(kind(), 20, 0, peak)[1])


@pytest.mark.parametrize("kind", [DiscountedUCB, Thompson, UnimodalUCB, EUCB])
@pytest.mark.parametrize("option", [{"discount": -0.5}, {"discount": 0.0}, {"discount": 1.1}, {"by": "day"}])
def test_constants_out_of_range_are_refused(kind, option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        kind(**option)


def test_own_constants_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="don't rise"):
        UnimodalUCB([0.5, 0.0])
    with pytest.raises(ConfigError, match="window=0"):
        SlidingWindowUCB(window=0)
    with pytest.raises(ConfigError, match="granularity=0"):
        EUCB(granularity=0.0)
    with pytest.raises(ConfigError, match=r"high=0.2 is below low=0.5"):
        EUCB(0.5, 0.2)
    with pytest.raises(ConfigError, match=r"don.t fit ratios from 0\.5"):
        EUCB(0.5, 0.8).check(play(EUCB(), 20, 0, peak)[1])


# What the textbook bandits do in some tens of rounds: two tables of an independent simulation. Reward 1 - 2 |α - .45|
# + .1 ε over [0, .8].


def mean_distance(bandit, rounds, seeds=30):
    """Mean |α - .45| over the last quarter."""
    ratios = np.array([play(bandit, rounds, seed, peak)[0] for seed in range(seeds)])
    return np.abs(ratios[:, -rounds // 4 :] - 0.45).mean()


def earned(bandit, rounds=100, seeds=60):
    """Mean noise-free reward over all rounds."""
    return np.mean([peak(play(bandit, rounds, seed, peak)[0]).mean() for seed in range(seeds)])


NINE = [n / 10 for n in range(9)]


@pytest.mark.parametrize(
    ("bandit", "after"),
    [
        (EUCB(0.0, 0.8, 0.90, 0.1), (0.198, 0.198, 0.198)),
        (EUCB(0.0, 0.8, 0.95, 0.1), (0.196, 0.191, 0.192)),
        (EUCB(0.0, 0.8, 0.99, 0.1), (0.165, 0.165, 0.165)),
        (EUCB(0.0, 0.8, 0.99, 0.1, bonus_scale=0.25), (0.094, 0.100, 0.095)),
        (DiscountedUCB(NINE, 0.90), (0.209, 0.212, 0.212)),
        (DiscountedUCB(NINE, 0.99, bonus_scale=0.5), (0.138, 0.126, 0.124)),
        (UCB1(NINE, bonus_scale=0.5), (0.120, 0.080, 0.059)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else f"{value[1]:g}",
)
def test_distance_from_the_peak(bandit, after):
    """After 50, 200 and 1000 rounds; of long runs a few seeds tell enough."""
    for rounds, seeds, tolerance, expected in zip(
        (50, 200, 1000), (60, 30, 6), (0.025, 0.015, 0.02), after, strict=True
    ):
        assert mean_distance(bandit, rounds, seeds) == pytest.approx(expected, abs=tolerance), rounds


@pytest.mark.parametrize(
    ("discount", "of_eucb", "of_grid"),
    [
        (0.90, (0.592, 0.608, 0.636, 0.699), (0.570, 0.629, 0.707, 0.793)),
        (0.95, (0.608, 0.640, 0.687, 0.765), (0.598, 0.674, 0.759, 0.833)),
        (0.98, (0.636, 0.672, 0.745, 0.819), (0.635, 0.724, 0.804, 0.860)),
        (0.99, (0.648, 0.691, 0.771, 0.840), (0.656, 0.750, 0.826, 0.871)),
    ],
)
def test_mean_reward_with_the_textbook_bonus_and_less_of_it(discount, of_eucb, of_grid):
    for bonus_scale, eucb, grid in zip((1.0, 0.5, 0.25, 0.1), of_eucb, of_grid, strict=True):
        assert earned(EUCB(0.0, 0.8, discount, 0.1, bonus_scale)) == pytest.approx(eucb, abs=0.02)
        assert earned(DiscountedUCB(None, discount, bonus_scale)) == pytest.approx(grid, abs=0.02)


def test_random_play_is_what_it_is_compared_with():
    """The mean of |α - .45| over [0, .8] is (.45² + .35²) / 1.6 = .203, and of the reward 1 - 2 · .203 = .594."""
    rng = random.Random(0)  # noqa: S311 - no secret
    distances = [abs(rng.uniform(0, 0.8) - 0.45) for _ in range(20000)]
    assert np.mean(distances) == pytest.approx((0.45**2 + 0.35**2) / 1.6, abs=0.003)
