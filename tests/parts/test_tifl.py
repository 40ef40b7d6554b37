"""TiFL and least available first: rules by hand, resumption, small candidates."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.errors import ConfigError
from fedlight.parts.selection import LeastAvailable, TiFL


def told(make_report, client, total_s, loss=1.0, **changes):
    return make_report(client, total_s=total_s, metrics={"train/loss": loss}, **changes)


@pytest.fixture
def profiled(make_state, make_report):
    """Return a function that makes a TiFL whose clients 0..9 took 1..10 s, in five tiers of two."""

    def make(losses=(1.0,) * 5, **options):
        tifl = TiFL(**({"interval": 1} | options))
        state = make_state(0, num_examples=np.full(10, 10))
        assert sorted(tifl.select(state, range(10), 10)) == list(range(10))
        tifl.observe(state, [told(make_report, n, n + 1.0, losses[n // 2]) for n in range(10)])
        return tifl

    return make


def drawn(tifl, make_state, rounds=2000, candidates=range(10), count=2):
    cohorts = [
        tifl.select(make_state(t, num_examples=np.full(10, 10)), candidates, count) for t in range(20, 20 + rounds)
    ]
    return np.bincount([cohort[0] // 2 for cohort in cohorts], minlength=5) / rounds, cohorts


def test_unknown_clients_go_first(make_state, make_report):
    tifl = TiFL()
    tifl.observe(make_state(0), [told(make_report, n, 1.0) for n in (1, 2, 3)])
    assert set(tifl.select(make_state(1), range(6), 3)) == {0, 4, 5}
    assert set(tifl.select(make_state(1), range(6), 4)) > {0, 4, 5}
    assert tifl.metrics()["selection/tier"] == -1


def test_a_round_is_of_one_tier(profiled, make_state):
    _, cohorts = drawn(profiled(), make_state, 50)
    assert {tuple(sorted(cohort)) for cohort in cohorts} == {(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)}


def test_tiers_that_fit_badly_are_drawn_more_often(profiled, make_state):
    """Losses 1..5: the last tier is the worst (q = 0) with 5/15, the first the best with 1/15."""
    tifl = profiled((1.0, 2.0, 3.0, 4.0, 5.0))
    told = tifl.metrics()
    assert [told[f"selection/probability/{tier}"] for tier in range(5)] == pytest.approx([n / 15 for n in range(1, 6)])
    shares, _ = drawn(tifl, make_state)
    assert np.abs(shares - np.arange(1, 6) / 15).max() < 0.04


def test_a_higher_accuracy_is_better(make_state, make_report):
    tifl = TiFL(num_tiers=2, interval=1, metric="train/accuracy")
    reports = [make_report(n, total_s=n + 1.0, metrics={"train/accuracy": 0.9 - 0.5 * (n >= 2)}) for n in range(4)]
    tifl.observe(make_state(0), reports)
    tifl.select(make_state(20), range(4), 1)
    tifl.observe(make_state(20), reports)
    assert tifl.metrics()["selection/probability/1"] == pytest.approx(2 / 3)


def test_spent_credits_are_out_until_all_are(profiled, make_state, make_report):
    tifl = profiled(credits=[2, 1, 1, 1, 1])
    shares, _ = drawn(tifl, make_state, 6)
    assert (shares * 6).round().tolist() == [2, 1, 1, 1, 1]
    shares, _ = drawn(tifl, make_state, 6)
    assert (shares * 6).round().tolist() == [2, 1, 1, 1, 1]  # given out again
    # the tier without credits has no rank: four are left, of which the worst gets 4/10
    tifl = profiled((5.0, 4.0, 3.0, 2.0, 1.0), credits=[1, 9, 9, 9, 9])
    while tifl._credits[0]:
        tifl.select(make_state(int(tifl._credits.sum()) + 50, num_examples=np.full(10, 10)), range(2), 2)
    tifl.observe(make_state(0, num_examples=np.full(10, 10)), [])
    told_now = [tifl.metrics()[f"selection/probability/{tier}"] for tier in range(5)]
    assert told_now == pytest.approx([0.0, 0.4, 0.3, 0.2, 0.1])


def test_a_cohort_larger_than_a_tier_is_filled_from_the_nearest(profiled, make_state):
    tifl = profiled()
    for t in range(20, 60):
        cohort = tifl.select(make_state(t, num_examples=np.full(10, 10)), range(10), 6)
        tier = cohort[0] // 2
        near = sorted(range(5), key=lambda other: 2 * abs(other - tier) - (other < tier))
        assert {client // 2 for client in cohort} == set(near[:3])


def test_only_tiers_that_are_up_are_drawn(profiled, make_state):
    shares, _ = drawn(profiled(), make_state, 40, candidates=[4, 5, 8], count=1)
    assert set(np.flatnonzero(shares)) == {2, 4}


def test_later_calls_of_a_round_stay_in_its_tier(profiled, make_state):
    tifl = profiled()
    for t in range(20, 40):
        state = make_state(t, num_examples=np.full(10, 10))
        first = tifl.select(state, range(10), 1)
        second = tifl.select(state, [n for n in range(10) if n != first[0]], 1)
        assert first[0] // 2 == second[0] // 2


def test_latencies_follow_and_tiers_are_made_anew(profiled, make_state, make_report):
    tifl = profiled()
    state = make_state(1, num_examples=np.full(10, 10))
    tifl.observe(state, [told(make_report, 0, 101.0)])
    assert tifl._latency_s[0] == pytest.approx(0.8 * 1.0 + 0.2 * 101.0)
    assert tifl._tiers[0] == 4


def test_a_client_that_nobody_met_is_in_the_middle(profiled, make_state):
    tifl = profiled()
    tifl._latency_s[7] = np.nan
    tifl._tiers[7] = -1
    assert tifl._tiers_of(np.array([7])).tolist() == [2]


def test_wrong_options_of_tifl_are_refused(make_state, make_report):
    for option in ({"num_tiers": 0}, {"interval": 0}, {"smoothing": 0.0}, {"credits": [1, 2]}, {"credits": [0] * 5}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            TiFL(**option)
    with pytest.raises(ConfigError, match="no client logs train/f1 while it trains; they log train/loss"):
        TiFL(metric="train/f1").observe(make_state(0), [told(make_report, 0, 1.0)])


def test_who_is_rarely_there_goes_first(make_state):
    """Client 0 is there in every second round, 1 and 2 always: (4 + 1) / (8 + 2) against (8 + 1) / (8 + 2)."""
    part = LeastAvailable(hold_off=0)
    for t in range(8):
        part.select(make_state(t), [0, 1, 2] if t % 2 else [1, 2], 0)
    assert part.select(make_state(9), [0, 1, 2], 1) == [0]
    assert part._there[:3].tolist() == [5, 9, 9]
    assert part._asked[:3].tolist() == [9, 9, 9]


def test_who_took_part_holds_off(make_state, make_report):
    part, cohorts = LeastAvailable(hold_off=2), []
    for t in range(6):
        cohorts.append(part.select(make_state(t), range(6), 2))
        part.observe(make_state(t), [make_report(client) for client in cohorts[-1]])
    assert sorted([*cohorts[0], *cohorts[1], *cohorts[2]]) == list(range(6))
    assert sorted([*cohorts[3], *cohorts[4], *cohorts[5]]) == list(range(6))
    assert len(part.select(make_state(6), range(6), 5)) == 5  # more than don't hold off


def test_a_client_at_work_is_not_looked_for(make_state, make_report):
    part = LeastAvailable(hold_off=0)
    cohort = part.select(make_state(0), range(3), 1)
    part.select(make_state(1), [n for n in range(3) if n not in cohort], 0)
    assert part._asked[cohort].tolist() == [1]
    part.observe(make_state(1), [make_report(cohort[0])])
    part.select(make_state(2), [n for n in range(3) if n not in cohort], 0)
    assert part._asked[cohort].tolist() == [2]
    with pytest.raises(ConfigError, match="hold_off=-1"):
        LeastAvailable(hold_off=-1)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_always_as_many_different_clients_as_there_are(settled, data):
    _, make = settled
    part = data.draw(st.sampled_from([TiFL(profiling_rounds=1), TiFL(num_tiers=7, credits=[1] * 7), LeastAvailable(2)]))
    for t in range(5):
        candidates = data.draw(st.lists(st.integers(0, 99), unique=True, max_size=30).map(sorted))
        count = data.draw(st.integers(0, 40))
        cohort = part.select(make(t), candidates, count)
        assert len(cohort) == len(set(cohort)) == min(count, len(candidates))
        assert set(cohort) <= set(candidates)


@pytest.mark.parametrize("kind", [TiFL, LeastAvailable])
def test_a_resumed_run_goes_on_as_it_would_have(kind, make_state, make_report):
    def play(part, rounds):
        cohorts = []
        for t in rounds:
            up = [n for n in range(100) if (n * 7 + t) % 3]
            cohorts.append(part.select(make_state(t), up, 10))
            back = [told(make_report, n, 1.0 + n % 13, 1.0 / (1 + n + t)) for n in cohorts[-1][:9]]
            part.observe(make_state(t), back)
        return cohorts

    whole = play(kind(), range(40))
    first, second = kind(), kind()
    play(first, range(23))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert play(second, range(23, 40)) == whole[23:]
