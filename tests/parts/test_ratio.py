from collections import Counter

import pytest

from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.ratio import ConstantPace, Fixed, PerLevel, RandomChoice, SpeedAligned, StagnationPace, Unaligned

LEVELS = [0.0, 0.5, 0.75]


def test_fixed_gives_everyone_the_same(make_state):
    assert Fixed(0.3).choose(make_state(), [4, 2]) == {4: 0.3, 2: 0.3}


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_a_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ConfigError, match=r"outside \[0, 1\)"):
        Fixed(ratio)
    with pytest.raises(ConfigError, match=r"levels\[1\]=.*outside"):
        PerLevel([0.0, ratio])


def test_static_levels_have_exact_shares_and_stay(make_state):
    part = PerLevel(LEVELS, shares=[2, 1, 1])
    first = part.choose(make_state(0), range(100))
    assert Counter(first.values()) == {0.0: 50, 0.5: 25, 0.75: 25}
    assert part.choose(make_state(5), [3, 50]) == {3: first[3], 50: first[50]}
    assert PerLevel(LEVELS, shares=[2, 1, 1]).choose(make_state(0), range(100)) == first
    assert PerLevel(LEVELS, shares=[2, 1, 1]).choose(make_state(0, seed=1), range(100)) != first


def test_dynamic_levels_are_drawn_anew_each_round(make_state):
    part = PerLevel(LEVELS, shares=[0.5, 0.5, 0.0], mode="dynamic")
    draws = [part.choose(make_state(t), [7])[7] for t in range(400)]
    assert set(draws) == {0.0, 0.5}
    assert abs(Counter(draws)[0.5] - 200) < 5 * 10
    assert part.choose(make_state(9), [7, 8]) == PerLevel(LEVELS, [1, 1, 0], "dynamic").choose(make_state(9), [7, 8])


def test_random_ratios_are_uniform_over_the_arms(make_state):
    part = RandomChoice(LEVELS)
    draws = Counter(part.choose(make_state(t), [c])[c] for t in range(100) for c in range(6))
    assert draws.keys() == set(LEVELS)
    assert all(abs(count - 200) < 5 * (600 * 2 / 9) ** 0.5 for count in draws.values())


@pytest.mark.parametrize("shares", [[2, 1, 1], [1, 1, 0], [0.5, 0.25, 0.25], [0.1, 0.0, 0.9], [1.5, 0.5, 2.0]])
def test_counts_and_fractions_of_one_are_shares_of_levels(shares):
    assert PerLevel([0.0, 0.5, 0.75], shares=shares).shares == pytest.approx([one / sum(shares) for one in shares])


def test_wrong_levels_are_refused():
    with pytest.raises(ConfigError, match="levels is empty"):
        PerLevel([])
    with pytest.raises(ConfigError, match="holds a ratio twice"):
        RandomChoice([0.5, 0.5])
    with pytest.raises(ConfigError, match="shares has 1 entries for 2 levels"):
        PerLevel([0.0, 0.5], shares=[1.0])
    with pytest.raises(ConfigError, match="are no shares"):
        PerLevel([0.0, 0.5], shares=[0.0, 0.0])
    with pytest.raises(ConfigError, match=r"sum to 0.8 \(level 0: 0.5, level 0.5: 0.3\): give fractions that sum to 1"):
        PerLevel([0.0, 0.5], shares=[0.5, 0.3])
    with pytest.raises(ConfigError, match=r"shares of PerLevel sum to 1\.5"):
        PerLevel([0.0, 0.5, 0.75], shares=[1.0, 0.5, 0.0])
    with pytest.raises(ConfigError, match="mode='fix'"):
        PerLevel([0.0], mode="fix")


SPEEDS = {0: 8000.0, 1: 4000.0, 2: 2000.0, 3: 1000.0, 4: 10.0}  # MAC/s; client 4 can't keep up


def true_s(client, work, latency_s=0.0):
    return Timing(
        latency_s + work.download_bytes / 1e4, work.macs / SPEEDS[client], latency_s + work.upload_bytes / 1e4
    )


def play(part, make_state, make_report, rounds, cohort=tuple(SPEEDS), latency_s=0.0, start=0):
    """Let a policy choose and see what came of it; returns the last round's choice and times."""
    for round_idx in range(start, start + rounds):
        state = make_state(round_idx)
        chosen = part.choose(state, list(cohort))
        works = {client: state.price(client, chosen[client]) for client in cohort}
        times = {client: true_s(client, works[client], latency_s) for client in cohort}
        part.observe(
            state, [make_report(client, chosen[client], work=works[client], timing=times[client]) for client in cohort]
        )
    return chosen, {client: times[client].total_s for client in cohort}


def largest_that_meets(make_state, client, target_s, low=0.0, high=0.95):
    """The smallest ratio on the grid of hundredths whose true time meets the target, one by one."""
    for percent in range(round(100 * low), round(100 * high) + 1):
        if true_s(client, make_state().price(client, percent / 100)).total_s <= target_s * (1 + 1e-9):
            return percent / 100
    return high


def test_the_first_round_takes_the_start_ratio(make_state):
    assert SpeedAligned(start_ratio=0.4).choose(make_state(), [0, 3]) == {0: 0.4, 3: 0.4}


@pytest.mark.parametrize(("target", "pace_setter"), [("fastest", 0), ("median", 2), (1.0, 4), (0.25, 1)])
def test_everyone_gets_the_largest_submodel_that_meets_the_target(target, pace_setter, make_state, make_report):
    part = SpeedAligned(ConstantPace(0.0, target), hysteresis=0.0)
    chosen, times = play(part, make_state, make_report, rounds=3)
    target_s = true_s(pace_setter, make_state().price(pace_setter, 0.0)).total_s
    for client in SPEEDS:
        assert chosen[client] == largest_that_meets(make_state, client, target_s)
        if chosen[client] < 0.95:
            assert times[client] <= target_s * (1 + 1e-6)
    assert part.metrics()["ratio/target_s"] == pytest.approx(target_s)
    assert part.metrics()["ratio/time_error"] < 1e-6


def known_s(client, work):
    return true_s(client, work).total_s


def test_a_learned_cost_model_comes_to_the_known_one(make_state, make_report):
    """Times carry no noise and no latency, so one look at every client tells all."""
    learned, known = (SpeedAligned(ConstantPace(0.3), hysteresis=0.0, cost_model=kind) for kind in ("learned", "known"))
    told = make_state(0, expected_s=known_s)
    at_once = known.choose(told, list(SPEEDS))
    assert learned.choose(told, list(SPEEDS)) == dict.fromkeys(SPEEDS, 0.5)
    target_s = known_s(0, told.price(0, 0.3))
    assert at_once == {client: largest_that_meets(make_state, client, target_s, low=0.3) for client in SPEEDS}
    assert play(learned, make_state, make_report, rounds=2)[0] == at_once


def test_a_known_cost_model_ignores_the_noise(make_state, make_report):
    part = SpeedAligned(ConstantPace(0.3), hysteresis=0.0, cost_model="known")
    state = make_state(0, expected_s=known_s)
    before = part.choose(state, list(SPEEDS))
    works = {client: state.price(client, before[client]) for client in SPEEDS}
    noisy = [Timing(0.0, 2 * known_s(client, works[client]), 0.0) for client in SPEEDS]
    part.observe(state, [make_report(n, before[n], work=works[n], timing=noisy[n]) for n in SPEEDS])
    assert part.metrics()["ratio/time_error"] == pytest.approx(0.5)  # half of what was seen was expected
    assert part.choose(make_state(1, expected_s=known_s), list(SPEEDS)) == before


def test_a_cost_model_that_nobody_can_know_is_refused(make_state):
    with pytest.raises(ConfigError, match="cost_model='guessed'"):
        SpeedAligned(cost_model="guessed")
    with pytest.raises(ConfigError, match="let the cost model be learned"):
        SpeedAligned(cost_model="known").choose(make_state(), [0])


def test_without_alignment_everyone_gets_the_level(make_state, make_report):
    part, restarted = (Unaligned(StagnationPace(start=0.6, step=0.2, patience=1)) for _ in range(2))
    for round_idx, level in enumerate((0.6, 0.6, 0.4)):
        state = make_state(round_idx)
        assert part.choose(state, [3, 0]) == {3: level, 0: level}
        part.observe(state, [make_report(0, metrics={"train/loss": 1.0})])
    restarted.load_state_dict(part.state_dict())
    assert restarted.choose(make_state(3), [1]) == part.choose(make_state(3), [1]) == {1: 0.4}


def test_the_level_sets_the_pace(make_state, make_report):
    chosen, _ = play(SpeedAligned(ConstantPace(0.3), hysteresis=0.0), make_state, make_report, rounds=3)
    target_s = true_s(0, make_state().price(0, 0.3)).total_s
    assert chosen[0] == 0.3
    assert chosen[2] == largest_that_meets(make_state, 2, target_s, low=0.3)
    assert chosen[4] == 0.95  # nothing it could be given is small enough


def test_latency_is_learnt(make_state, make_report):
    part = SpeedAligned(ConstantPace(0.0, 1.0), hysteresis=0.0, max_ratio=0.9)
    cohort = (0, 1, 2, 3)
    _, times = play(part, make_state, make_report, rounds=30, cohort=cohort, latency_s=0.5)
    assert max(times.values()) <= 1.05 * true_s(3, make_state().price(3, 0.0), 0.5).total_s


def test_hysteresis_keeps_a_ratio_through_small_changes(make_state, make_report):
    def run(hysteresis):
        part = SpeedAligned(ConstantPace(0.0), hysteresis=hysteresis, forgetting=0.01)
        before, _ = play(part, make_state, make_report, rounds=2, cohort=(0, 1, 2))
        state, work = make_state(2), make_state().price(2, before[2])
        slower = true_s(2, work)
        slower = Timing(slower.download_s, 1.05 * slower.compute_s, slower.upload_s)
        part.observe(state, [make_report(2, before[2], work=work, timing=slower)])
        return before[2], part.choose(make_state(3), [0, 1, 2])[2]

    before, after = run(0.1)
    assert after == before
    before, after = run(0.0)
    assert after > before


def test_strangers_are_taken_for_the_median(make_state, make_report):
    part = SpeedAligned(ConstantPace(0.0), hysteresis=0.0)
    play(part, make_state, make_report, rounds=1, cohort=(0, 2, 3))
    chosen = part.choose(make_state(1), [0, 77])
    assert chosen[77] == largest_that_meets(make_state, 2, true_s(0, make_state().price(0, 0.0)).total_s)


def test_speed_aligned_survives_a_restart(make_state, make_report):
    first = SpeedAligned()
    play(first, make_state, make_report, rounds=3)
    second = SpeedAligned()
    second.load_state_dict(first.state_dict())
    assert first.metrics() == second.metrics()
    again = [play(part, make_state, make_report, rounds=2, start=3) for part in (first, second)]
    assert again[0] == again[1]


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match=r"max_ratio=1.0 is outside"):
        SpeedAligned(max_ratio=1.0)
    with pytest.raises(ConfigError, match=r"step=0.0"):
        SpeedAligned(step=0.0)
    with pytest.raises(ConfigError, match=r"hysteresis=-1.0"):
        SpeedAligned(hysteresis=-1.0)


def test_a_hundred_thousand_registered_clients_cost_nothing(make_state, make_report):
    part = SpeedAligned()
    state = make_state(price=lambda client, ratio: Work(3000.0 * (1 - ratio) ** 2, 1000, 1000))
    assert len(part.choose(state, range(50))) == 50
    part.observe(state, [make_report(client) for client in range(50)])
    assert part.state_dict()["model"]["moments"].shape[0] == 50
