"""A fleet that changes: who is up, how jobs end, and how fast clients are, whatever the order of questions."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.core.fleet import Departure
from fedlight.core.types import Timing, Work
from fedlight.errors import ConfigError
from fedlight.fleet import (
    AllOf,
    AlwaysUp,
    Availability,
    BackgroundLoad,
    ChangingFleet,
    Completeness,
    Connectivity,
    Daily,
    Drift,
    Drops,
    High,
    Homogeneous,
    JoinLeave,
    PartialWork,
    Responsiveness,
    Slowdown,
    SpeedStep,
)

WORK = Work(macs=10e9, download_bytes=1_250_000, upload_bytes=2_500_000)  # 1 s, 2 s and 2 s on Homogeneous
AVAILABILITIES = {
    "daily": lambda: Daily(0.3, day_s=50.0, timezone_spread=0.4, jitter=0.1),
    "one zone": lambda: Daily(0.2, day_s=20.0, timezone_spread=0.0, jitter=0.0),
    "join": lambda: JoinLeave(interval_s=7.0, leave=0.2, present=0.3),
    "rarely there": lambda: JoinLeave(interval_s=5.0, leave=0.9, present=0.05),
    "both": lambda: AllOf([Daily(0.5, day_s=30.0), JoinLeave(interval_s=9.0, leave=0.2, present=0.5)]),
}
times = st.floats(0.0, 300.0) | st.integers(0, 60).map(lambda tick: 5.0 * tick)


def fleet_with(num_clients=8, seed=1, devices=None, **axes):
    fleet = ChangingFleet(devices or Homogeneous(), **axes)
    fleet.setup(num_clients, seed)
    return fleet


def everything(num_clients=8, seed=1):
    return fleet_with(
        num_clients,
        seed,
        High(),
        availability=[Daily(0.6, day_s=40.0), JoinLeave(interval_s=15.0, leave=0.1)],
        connectivity=Drops(0.2, per_second=0.02),
        completeness=PartialWork(0.5),
        responsiveness=[
            Drift(interval_s=4.0, link_std=0.05),
            BackgroundLoad(interval_s=4.0),
            SpeedStep(30.0, share=0.5),
        ],
    )


def timing(*seconds):
    return Timing(*(pytest.approx(one) for one in seconds))


def is_up(availability, client, now_s):
    up, until_s = availability.status(np.array([client]), np.array([now_s]))
    assert until_s[0] > now_s
    return bool(up[0])


# Who is up ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AVAILABILITIES)
@given(questions=st.lists(times, min_size=1, max_size=12), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_candidates_are_those_that_are_up_whatever_was_asked_before(kind, questions, seed):
    fleet = fleet_with(5, seed, availability=AVAILABILITIES[kind]())
    oracle = AVAILABILITIES[kind]()
    oracle.setup(5, seed)
    for now_s in questions:
        expected = [client for client in range(5) if is_up(oracle, client, now_s)]
        assert list(fleet.candidates(now_s)) == expected


@pytest.mark.parametrize("kind", AVAILABILITIES)
@given(now_s=times, seed=st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_the_next_time_up_is_the_first_at_which_a_client_that_is_down_is_up(kind, now_s, seed):
    fleet, oracle = fleet_with(3, seed, availability=AVAILABILITIES[kind]()), AVAILABILITIES[kind]()
    oracle.setup(3, seed)
    down = [client for client in range(3) if not is_up(oracle, client, now_s)]
    next_s = fleet.next_up_s(now_s)
    if not down:
        assert next_s is None
        return
    assert next_s > now_s
    assert any(is_up(oracle, client, next_s) for client in down)
    for before_s in np.linspace(now_s, next_s, 25, endpoint=False):
        assert not any(is_up(oracle, client, float(before_s)) for client in down)
    before_s = math.nextafter(next_s, 0.0)
    assert before_s < now_s or not any(is_up(oracle, client, before_s) for client in down)


@pytest.mark.parametrize("kind", AVAILABILITIES)
@given(now_s=times, seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_status_holds_until_its_end(kind, now_s, seed):
    availability = AVAILABILITIES[kind]()
    availability.setup(4, seed)
    clients = np.arange(4)
    up, until_s = availability.status(clients, np.full(4, now_s))
    last_s = np.nextafter(until_s, 0.0)
    for part in np.linspace(0.0, 1.0, 7, endpoint=False):
        # Where the end is one rounding away, a moment in between is the end.
        between_s = np.minimum(now_s + part * (until_s - now_s), last_s)
        assert (availability.status(clients, between_s)[0] == up).all()
    assert (availability.status(clients, last_s)[0] == up).all()


def test_a_day_by_hand():
    """One zone, no jitter: all are up for a fifth of the day around its peak at a tenth: from 0 to 4 of 20 s."""
    fleet = fleet_with(4, availability=Daily(0.2, day_s=20.0, peak=0.1, timezone_spread=0.0, jitter=0.0))
    for now_s, count in ((0.0, 4), (3.999, 4), (4.0, 0), (12.0, 0), (19.999, 0), (20.0, 4), (1003.9, 4), (1004.1, 0)):
        assert len(fleet.candidates(now_s)) == count, now_s
    assert fleet.next_up_s(4.0) == pytest.approx(20.0)
    assert fleet.next_up_s(1005.0) == pytest.approx(1020.0)


def test_everyone_is_up_for_their_share_of_the_day():
    daily = Daily(0.3, day_s=1000.0, timezone_spread=1.0, jitter=0.05)
    daily.setup(400, 3)
    up = np.array([daily.status(np.arange(400), np.full(400, float(t)))[0] for t in range(5000, 7000, 4)])
    assert up.mean(0) == pytest.approx(0.3, abs=0.15)  # a window shifts by some jitter from day to day
    assert up.mean() == pytest.approx(0.3, abs=0.003)
    assert up.mean(1) == pytest.approx(0.3, abs=0.09)  # zones all around the day: no wave


def test_joining_and_leaving_follow_their_rates():
    """800 of 1,000 are members on average; 10 % of them leave per interval, and as many join."""
    churn = JoinLeave(interval_s=10.0, leave=0.1, present=0.8)
    churn.setup(4000, 0)
    everybody = np.arange(4000)
    up = np.array([churn.status(everybody, np.full(4000, 10.0 * k))[0] for k in range(40)])
    assert up.mean(1) == pytest.approx(0.8, abs=0.03)
    before, after = up[:-1], up[1:]
    assert (before & ~after).sum() / before.sum() == pytest.approx(0.1, abs=0.005)
    assert (~before & after).sum() / (~before).sum() == pytest.approx(0.1 * 0.8 / 0.2, abs=0.02)


def test_nobody_is_ever_up_where_the_answers_never_agree():
    early, late = Daily(0.2, 100.0, peak=0.3, timezone_spread=0.0, jitter=0.0), Daily(0.2, 100.0, 0.7, 0.0, 0.0)
    fleet = fleet_with(2, availability=[early, late])
    assert not len(fleet.candidates(0.0))
    assert fleet.next_up_s(0.0) is None
    assert fleet_with(2, availability=[early, Daily(0.2, 100.0, 0.4, 0.0, 0.0)]).next_up_s(0.0) == pytest.approx(30.0)


@pytest.mark.parametrize(("day", "known"), [(30, True), (32, False)])
@pytest.mark.parametrize("others", [0, 2], ids=["all are down", "some are up"])
def test_who_comes_after_more_than_a_month_is_not_waited_for(day, known, others):
    """The last client comes up once, at a time that is known at the start; the others are always up."""

    class Once(Availability):
        def setup(self, num_clients, seed):
            pass

        def status(self, clients, times_s):
            late = clients == others
            came = times_s >= day * 86_400.0
            return ~late | came, np.where(late & ~came, day * 86_400.0, np.inf)

    fleet = fleet_with(others + 1, availability=Once())
    assert len(fleet.candidates(0.0)) == others
    assert fleet.next_up_s(0.0) == (day * 86_400.0 if known else None)
    assert fleet.next_up_s(2 * 86_400.0) == day * 86_400.0


def test_without_axes_it_is_its_devices():
    plain, wrapped = High(), fleet_with(20, 4, High())
    plain.setup(20, 4)
    for client in range(20):
        departure = Departure(client, 3, 17.0, 1)
        assert wrapped.fate(departure, WORK) == plain.fate(departure, WORK)
        assert wrapped.expected_timing(client, WORK, 5.0) == plain.expected_timing(client, WORK, 5.0)
        assert wrapped.timing(client, WORK, 2) == plain.timing(client, WORK, 2)
        assert wrapped.device(client) == plain.device(client)
    assert wrapped.candidates(3.0) == range(20)
    assert wrapped.next_up_s(3.0) is None
    assert wrapped.share(Departure(0, 0, 0.0)) == 1.0
    assert wrapped.changes() == {}
    assert fleet_with(2, availability=AlwaysUp()).candidates(9.0).tolist() == [0, 1]


# How jobs end ---------------------------------------------------------------------------------------------------------


def test_a_client_that_goes_down_loses_its_job():
    """All are up from 0 to 4 s of every 20; a job takes 1 + 2 + 2 s."""
    fleet = fleet_with(1, availability=Daily(0.2, day_s=20.0, peak=0.1, timezone_spread=0.0, jitter=0.0))
    lost = fleet.fate(Departure(0, 0, 0.5), WORK)
    assert (lost.lost_s, lost.cause) == (pytest.approx(4.0), "left")
    assert lost.timing.total_s == pytest.approx(5.0)
    small = Work(macs=5e9, download_bytes=1_250_000, upload_bytes=1_250_000)  # 3 s
    assert fleet.fate(Departure(0, 0, 0.5), small).lost_s is None
    assert fleet.fate(Departure(0, 0, 1.5), small).cause == "left"


def test_connections_break_while_something_is_sent():
    drops, timing = Drops(per_job=0.25), Timing(1.0, 5.0, 3.0)
    drops.setup(1, 0)
    moments = [drops.drop_s(Departure(0, round_idx, 0.0), timing) for round_idx in range(2000)]
    broken = [moment for moment in moments if moment is not None]
    assert len(broken) / 2000 == pytest.approx(0.25, abs=0.03)
    assert all(0 <= moment < 1 or 6 <= moment <= 9 for moment in broken)
    assert np.mean([moment < 1 for moment in broken]) == pytest.approx(0.25, abs=0.06)  # 1 of 4 s of transfer


def test_drops_per_second_follow_the_exponential():
    drops = Drops(per_job=0.0, per_second=0.2)
    drops.setup(1, 0)
    for transfer_s in (0.5, 4.0):
        timing = Timing(transfer_s / 2, 1.0, transfer_s / 2)
        lost = np.mean([drops.drop_s(Departure(0, k, 0.0), timing) is not None for k in range(2000)])
        assert lost == pytest.approx(1 - math.exp(-0.2 * transfer_s), abs=0.035)


def test_partial_work_is_a_share_of_some_jobs():
    partial = PartialWork(0.4, low=0.2, high=0.6)
    partial.setup(1, 0)
    shares = np.array([partial.share(Departure(0, round_idx, 0.0)) for round_idx in range(2000)])
    short = shares[shares < 1]
    assert len(short) / 2000 == pytest.approx(0.4, abs=0.035)
    assert short.min() >= 0.2
    assert short.max() <= 0.6
    assert short.mean() == pytest.approx(0.4, abs=0.015)


@given(st.integers(0, 7), st.integers(0, 50), times, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_losses_come_after_the_departure_and_fates_are_settled(client, round_idx, now_s, repeat):
    fleet, departure = everything(), Departure(client, round_idx, now_s, repeat)
    fate = fleet.fate(departure, WORK)
    assert fate.lost_s is None or (now_s <= fate.lost_s <= now_s + fate.timing.total_s and fate.cause)
    other = pickle.loads(pickle.dumps(fleet))  # noqa: S301 - our own
    other.candidates(3 * now_s)
    other.fate(Departure(1, 9, 2 * now_s), WORK)
    assert other.fate(departure, WORK) == fate
    assert other.share(departure) == fleet.share(departure)
    assert 0 < fleet.share(departure) <= 1
    assert list(other.candidates(now_s)) == list(fleet.candidates(now_s))


# How fast clients are -------------------------------------------------------------------------------------------------


def test_drift_is_an_autoregression_of_the_log_speed():
    drift = Drift(interval_s=5.0, std=0.1, correlation=0.9)
    drift.setup(300, 2)
    x = np.array(
        [[-math.log(drift.slowdown(client, 5.0 * k + 2.0).compute) for k in range(40)] for client in range(60)]
    )
    steps = x[:, 1:] - 0.9 * x[:, :-1]
    assert steps.std() == pytest.approx(0.1, rel=0.05)
    assert x.std() == pytest.approx(0.1 / math.sqrt(1 - 0.81), rel=0.12)
    assert x[:, 0].std() == pytest.approx(x[:, -1].std(), rel=0.35)  # as far from the start on
    assert steps.mean() == pytest.approx(0.0, abs=0.01)
    # The same draw is the step of one interval and nothing else: what remains is uncorrelated.
    assert np.corrcoef(steps[:, 1:].ravel(), steps[:, :-1].ravel())[0, 1] == pytest.approx(0.0, abs=0.06)
    assert drift.slowdown(0, 0.0).transfer == 1.0
    assert drift.slowdown(7, 10.0) == drift.slowdown(7, 14.99) != drift.slowdown(7, 15.0)


def test_background_load_comes_in_episodes():
    load = BackgroundLoad(interval_s=1.0, probability=0.05, low=2.0, high=4.0, shortest=3, longest=10)
    load.setup(200, 5)
    factors = np.array([[load.slowdown(client, float(k)).compute for k in range(60)] for client in range(200)])
    loaded = factors > 1
    lasts = [1.0] * 3 + [(10 - age) / 8 for age in range(3, 10)]  # P(an episode is longer than age), lengths 3 .. 10
    assert loaded.mean() == pytest.approx(1 - math.prod(1 - 0.05 * share for share in lasts), abs=0.03)
    assert factors[loaded].min() >= 2
    assert factors[loaded].max() <= 4
    for row in loaded[:, 10:50]:
        runs = "".join("x" if one else " " for one in row).strip("x").split()
        assert all(len(run) >= 3 for run in runs)


def test_a_step_makes_a_device_four_times_slower_from_then_on():
    fleet = fleet_with(3, responsiveness=SpeedStep(at_s=100.0, factor=4.0, clients=[1], until_s=200.0))
    for client, now_s, compute_s in ((1, 99.9, 2), (1, 100.0, 8), (1, 199.0, 8), (1, 200.0, 2), (0, 150.0, 2)):
        assert fleet.fate(Departure(client, 0, now_s), WORK).timing == timing(1, compute_s, 2)
        assert fleet.expected_timing(client, WORK, now_s) == timing(1, compute_s, 2)


def test_expectation_follows_the_drift_and_not_the_noise():
    fleet = fleet_with(1, devices=Homogeneous(noise=0.3), responsiveness=Drift(interval_s=10.0, std=0.5))
    expected_s = fleet.expected_timing(0, WORK, 25.0).compute_s
    assert (
        expected_s == fleet.expected_timing(0, WORK, 29.0).compute_s != fleet.expected_timing(0, WORK, 31.0).compute_s
    )
    happened_s = [fleet.fate(Departure(0, round_idx, 25.0), WORK).timing.compute_s for round_idx in range(801)]
    assert np.median(happened_s) == pytest.approx(expected_s, rel=0.05)


def test_slowdowns_multiply():
    assert Slowdown(2.0, 3.0) * Slowdown(4.0, 0.5) == Slowdown(8.0, 1.5)
    fleet = fleet_with(1, responsiveness=[SpeedStep(0.0, 2.0), SpeedStep(0.0, 3.0)])
    assert fleet.expected_timing(0, WORK, 0.0).compute_s == pytest.approx(12.0)


# Size -----------------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_clients_are_arrays(monkeypatch):
    asked = []

    def counted(self, clients, times_s, status=Daily.status):
        asked.append(len(clients))
        return status(self, clients, times_s)

    monkeypatch.setattr(Daily, "status", counted)
    fleet = fleet_with(100_000, availability=Daily(0.3, day_s=86_400.0, timezone_spread=1.0))
    fleet.candidates(0.0)
    assert sum(asked) == 100_000
    asked.clear()
    for event in range(100):
        fleet.candidates(0.5 * event)
    # An event asks those alone whose status ends: a client's window opens and ends once a day and so does its day, at
    # any time of it, which makes 3 x 100,000 x 49.5 s / 86,400 s = 172 with a deviation of 13.
    assert 120 < sum(asked) < 224
    assert len(pickle.dumps(fleet)) < 200 * 100_000


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Daily(0.0), "share_up=0.0 is outside"),
        (lambda: Daily(day_s=0.0), "day_s=0.0"),
        (lambda: Daily(peak=2.0), "peak=2.0"),
        (lambda: Daily(timezone_spread=-1.0), "timezone_spread=-1.0"),
        (lambda: Daily(jitter=-1.0), "jitter=-1.0"),
        (lambda: JoinLeave(0.0), "interval_s=0.0"),
        (lambda: JoinLeave(1.0, present=1.0), "present=1.0"),
        (lambda: JoinLeave(1.0, leave=0.5, present=0.8), r"leave=0.5 is outside \(0, 0.2\]"),
        (lambda: AllOf([]), "parts is empty"),
        (lambda: Drops(1.5), "per_job=1.5"),
        (lambda: Drops(per_second=-1.0), "per_second=-1.0"),
        (lambda: PartialWork(2.0), "probability=2.0"),
        (lambda: PartialWork(low=0.0), "0 < low <= high <= 1"),
        (lambda: Drift(0.0), "interval_s=0.0"),
        (lambda: Drift(1.0, std=-1.0), "std=-1.0"),
        (lambda: Drift(1.0, correlation=1.0), "correlation=1.0"),
        (lambda: BackgroundLoad(-1.0), "interval_s=-1.0"),
        (lambda: BackgroundLoad(1.0, probability=2.0), "probability=2.0"),
        (lambda: BackgroundLoad(1.0, low=0.5), "1 <= low <= high"),
        (lambda: BackgroundLoad(1.0, shortest=0), "1 <= shortest <= longest"),
        (lambda: SpeedStep(-1.0), "at_s=-1.0"),
        (lambda: SpeedStep(1.0, factor=0.0), "factor=0.0"),
        (lambda: SpeedStep(1.0, share=0.0), "share=0.0"),
        (lambda: SpeedStep(5.0, until_s=5.0), "until_s=5.0 is not after"),
        (lambda: fleet_with(3, responsiveness=SpeedStep(1.0, clients=[3])), "has 3, but the clients are 0 to 2"),
        (lambda: fleet_with(30, devices=everything(30)), "give their comings and goings as model.fleet.availability"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_axes_are_interfaces():
    for axis in (Availability, Connectivity, Completeness, Responsiveness):
        with pytest.raises(TypeError, match="abstract"):
            axis()
