"""When the server moves, on a clock played by hand: who is back when, who is given up, and that it always ends."""

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.clock import Clock
from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.schedule import (
    Buffered,
    Constant,
    Deadline,
    FixedFraction,
    Hinge,
    OverSelection,
    Polynomial,
    Synchronous,
)


class Fleet:
    """Client n takes n + 1 seconds, or what ``seconds`` says, and comes up at ``up_s[n]``; low numbers go first."""

    def __init__(self, num_clients, seconds=None, lost=None, up_s=None):
        self.clock = Clock()
        self.num_clients = num_clients
        self.seconds = seconds or (lambda client: client + 1.0)
        self.lost = lost or (lambda client: None)
        self.up_s = up_s or [0.0] * num_clients
        self.clock.next_up_s = self.next_up_s
        self.asked_s = []
        self.round_idx = 0
        self.sent = []
        self.sent_s = []
        self._times_sent = Counter()

    def next_up_s(self, now_s):
        assert len(self.clock) < self.num_clients
        self.asked_s.append(now_s)
        return min((up_s for up_s in self.up_s if up_s > now_s), default=None)

    def is_idle(self, client):
        return client not in self.clock.busy and self.up_s[client] <= self.clock.now_s

    def dispatch(self, count):
        if not len(self.clock) and not any(map(self.is_idle, range(self.num_clients))):
            self.clock.wait_until(self.next_up_s(self.clock.now_s))
        idle = filter(self.is_idle, range(self.num_clients))
        chosen = list(itertools.islice(idle, max(0, count)))
        for client in chosen:
            now_s, lost = self.clock.now_s, self.lost(client)
            sent = client, self.round_idx
            repeat = self._times_sent[sent]
            self._times_sent[sent] += 1
            self.sent.append(sent)
            self.sent_s.append((client, now_s))
            job = Job(
                client, self.round_idx, 0.0, None, Work(0.0, 0, 0), Timing(0.0, self.seconds(client), 0.0), now_s,
                repeat=repeat,
            )  # fmt: skip
            if lost is not None:
                job.lost_s, job.cause = now_s + lost, "dropped"
            self.clock.push(job)
        return len(chosen)

    def play(self, schedule, rounds=1):
        """Return who was back in every round."""
        schedule.check(self.num_clients)
        came = []
        for _ in range(rounds):
            came.append([job.client for job in schedule.advance(self.clock, self.dispatch)])
            self.round_idx += 1
        return came


def test_synchronous_waits_for_the_slowest_and_returns_in_order():
    fleet = Fleet(10)
    assert fleet.play(Synchronous(clients_per_round=4), 2) == [[0, 1, 2, 3]] * 2
    assert fleet.clock.now_s == 8.0
    assert len(fleet.clock) == 0


def test_synchronous_takes_the_whole_fleet_by_default():
    assert len(Fleet(5).play(Synchronous())[0]) == 5


def test_a_cohort_larger_than_the_fleet_is_refused():
    with pytest.raises(ConfigError, match=r"clients_per_round=21 is larger than the fleet of num_clients=20.*lower"):
        Synchronous(clients_per_round=21).check(20)
    with pytest.raises(ConfigError, match="clients_per_round=0 trains nobody"):
        Synchronous(clients_per_round=0).check(20)
    with pytest.raises(ConfigError, match="concurrency=6 is larger than the fleet of num_clients=5"):
        Buffered(concurrency=6).check(5)
    with pytest.raises(ConfigError, match=r"min_count: 3 is larger than the cohort of 2, .* lower it to 2 or less"):
        Deadline(1.0, clients_per_round=2, min_count=3).check(5)


def test_buffered_moves_on_every_buffer_and_refills_at_once():
    fleet, schedule = Fleet(10), Buffered(buffer=2, concurrency=3)
    # 0, 1, 2 start at 0. 0 is back at 1 and starts again; at 2 client 1 is back first, since it was sent off first.
    assert fleet.play(schedule) == [[0, 1]]
    assert [job.finish_s for job in fleet.clock.jobs()] == [2.0, 3.0]
    # 0 is back at the same moment and is taken in before anybody is sent off: 0 and 1 both start at 2 from version 1.
    # At 3 come client 2 and, sent off after it, client 0.
    assert fleet.play(schedule) == [[0, 2]]
    assert fleet.clock.now_s == 3.0
    assert fleet.sent == [(0, 0), (1, 0), (2, 0), (0, 0), (0, 1), (1, 1)]


def test_buffered_with_a_buffer_of_one_moves_on_every_return():
    fleet = Fleet(3)
    assert fleet.play(Buffered(buffer=1), 5) == [[0], [1], [0], [2], [0]]
    assert fleet.clock.now_s == 3.0


@pytest.mark.parametrize("seconds", [0.0, 2.5])
def test_buffered_equals_synchronous_where_all_take_equally_long(seconds):
    """With a buffer as large as the cohort, and in particular without any delay."""
    one, other = (Fleet(6, lambda _: seconds) for _ in range(2))
    assert one.play(Buffered(buffer=4, concurrency=4), 5) == other.play(Synchronous(4), 5)
    assert one.sent == other.sent
    assert one.clock.now_s == other.clock.now_s


def test_buffered_fills_a_free_place_as_soon_as_somebody_comes_up():
    """Two places, and client 1 comes at 1 s, 99 s before client 0 is back; the third, who comes at 2 s, finds none."""
    fleet = Fleet(3, lambda client: 100.0, up_s=[0.0, 1.0, 2.0])
    assert fleet.play(Buffered(buffer=1, concurrency=2), 2) == [[0], [1]]
    assert fleet.clock.now_s == 101.0
    assert fleet.sent_s == [(0, 0.0), (1, 1.0), (0, 100.0)]
    assert fleet.asked_s == [0.0]  # with all places taken nobody asks the fleet


def test_who_comes_up_as_another_is_back_is_sent_off_after_it_is_taken_in():
    fleet = Fleet(2, lambda client: 5.0, up_s=[0.0, 5.0])
    assert fleet.play(Buffered(buffer=1, concurrency=2)) == [[0]]
    assert fleet.sent_s == [(0, 0.0)]
    fleet.play(Buffered(buffer=1, concurrency=2))
    assert fleet.sent == [(0, 0), (0, 1), (1, 1)]
    assert fleet.sent_s == [(0, 0.0), (0, 5.0), (1, 5.0)]


@given(
    buffer=st.integers(1, 4),
    times=st.lists(st.floats(0.1, 20.0), min_size=5, max_size=5),
    up_s=st.lists(st.floats(0.0, 30.0), min_size=5, max_size=5),
)
def test_with_a_place_for_everyone_all_leave_as_they_come_up(buffer, times, up_s):
    fleet = Fleet(5, times.__getitem__, up_s=up_s)
    fleet.play(Buffered(buffer), 6)
    first_s = {}
    for client, at_s in fleet.sent_s:
        first_s.setdefault(client, at_s)
    assert first_s == {client: up_s[client] for client in first_s}
    assert all(up_s[client] >= fleet.clock.now_s for client in range(5) if client not in first_s)


def test_a_lost_job_is_replaced_when_it_is_lost():
    fleet = Fleet(4, lambda client: 10.0, lambda client: 2.0 if client == 0 else None)
    schedule = Buffered(buffer=2, concurrency=2)
    schedule.check(4)
    finished = schedule.advance(fleet.clock, fleet.dispatch)
    # Client 0 is lost at 2, 4, 6, 8 and 10, and tried again each time; client 1 is back at 10 and at 20.
    assert [(job.client, job.finish_s) for job in finished] == [(1, 10.0), (1, 20.0)]
    assert [job.event_s for job in fleet.clock.take_lost()] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0]


def test_littles_law():
    """Clients at work = throughput x duration."""
    fleet = Fleet(200, lambda client: 3.0)
    fleet.dispatch(0)
    schedule, moves = Buffered(buffer=7, concurrency=50), 3000
    fleet.play(schedule, moves)
    throughput = 7 * moves / fleet.clock.now_s
    assert throughput * 3.0 == pytest.approx(50, rel=0.01)


def test_over_selection_takes_the_first_and_gives_the_others_up():
    fleet = Fleet(20)
    assert fleet.play(OverSelection(10), 2) == [list(range(10))] * 2
    assert fleet.clock.now_s == 20.0
    lost = fleet.clock.take_lost()
    assert [(job.client, job.cause, job.lost_s) for job in lost[:3]] == [(n, "late", 10.0) for n in (10, 11, 12)]
    assert len(lost) == 6
    small = Fleet(11)
    small.play(OverSelection(10))
    assert len(small.sent) == 11


def test_a_fraction_of_one_is_synchronous():
    one, other = Fleet(7), Fleet(7)
    assert one.play(FixedFraction(5, fraction=1.0), 3) == other.play(Synchronous(5), 3)
    assert one.clock.now_s == other.clock.now_s


def test_a_fixed_fraction_drops_keeps_or_caches_the_late():
    """Five clients, 80 %: four are waited for, and client 4, of five seconds, is late."""
    drop, keep, cache = Fleet(5), Fleet(5), Fleet(5)
    assert drop.play(FixedFraction(fraction=0.8), 2) == [[0, 1, 2, 3]] * 2
    assert [job.cause for job in drop.clock.take_lost()] == ["late"] * 2
    # Kept, it is one of the four of the next round: 4 is back at 5, then 0, 1 and 2 at 5, 6, 7.
    assert keep.play(FixedFraction(fraction=0.8, late="keep"), 2) == [[0, 1, 2, 3], [4, 0, 1, 2]]
    assert keep.clock.now_s == 7.0
    # Cached, it joins, but the four of the cohort are waited for.
    assert cache.play(FixedFraction(fraction=0.8, late="cache"), 2) == [[0, 1, 2, 3], [4, 0, 1, 2, 3]]
    assert cache.clock.now_s == 8.0


def test_only_the_kept_are_discounted():
    assert FixedFraction(late="keep").discount(3) == 0.5
    assert FixedFraction(late="keep", staleness=Hinge(1.0, 1.0)).discount(3) == pytest.approx(1 / 3)
    assert FixedFraction(late="cache").discount(3) == FixedFraction().discount(3) == 1.0
    with pytest.raises(ConfigError, match="staleness weighs late results that are kept, and late='drop'"):
        FixedFraction(staleness=Constant())


def test_a_deadline_takes_what_is_back():
    fleet = Fleet(6)
    assert fleet.play(Deadline(3.5), 2) == [[0, 1, 2]] * 2
    assert fleet.clock.now_s == 7.0
    assert [job.client for job in fleet.clock.take_lost()] == [3, 4, 5] * 2


def test_nobody_waits_for_a_deadline_that_all_meet():
    fleet = Fleet(3)
    assert fleet.play(Deadline(100.0)) == [[0, 1, 2]]
    assert fleet.clock.now_s == 3.0


def test_a_deadline_without_end_is_synchronous():
    one, other = Fleet(7), Fleet(7)
    assert one.play(Deadline(None, 5), 3) == other.play(Synchronous(5), 3)
    assert one.clock.now_s == other.clock.now_s


def test_a_deadline_that_too_few_meet_is_doubled():
    fleet, schedule = Fleet(8), Deadline(1.5, min_count=4)
    assert fleet.play(schedule, 2) == [[0, 1, 2, 3, 4, 5]] * 2  # 1.5 and 3 are too short, 6 isn't
    assert fleet.clock.now_s == 12.0
    assert schedule.metrics() == {"schedule/extended_rounds": 2.0, "schedule/deadline_s": 1.5}


def test_doubling_has_an_end_and_an_empty_round_is_one():
    fleet = Fleet(3, lambda client: 100.0)
    assert fleet.play(Deadline(1.0, max_doublings=2), 2) == [[], []]
    assert fleet.clock.now_s == 8.0
    assert len(fleet.clock) == 0


def test_late_results_of_a_deadline_join_a_later_round():
    fleet = Fleet(3, lambda client: (1.0, 2.0, 5.0)[client])
    assert fleet.play(Deadline(2.0, late="keep"), 3) == [[0, 1], [0, 1], [2, 0, 1]]
    assert fleet.clock.now_s == 6.0


def test_a_deadline_adapts_to_a_percentile():
    fleet, schedule = Fleet(10), Deadline(percentile=0.7, window=10)
    assert fleet.play(schedule) == [list(range(10))]  # nothing is known: all are waited for
    assert schedule.metrics()["schedule/deadline_s"] == 7.0
    assert fleet.play(schedule, 3) == [list(range(7))] * 3  # three of ten are late, and it stays
    assert schedule.metrics()["schedule/deadline_s"] == 7.0
    fleet.seconds = lambda client: 2.0 * (client + 1)
    assert fleet.play(schedule) == [[0, 1, 2]]
    assert schedule.metrics()["schedule/deadline_s"] == 14.0  # seven of ten were longer than 7
    assert fleet.play(schedule, 2) == [list(range(7))] * 2
    copy = Deadline(percentile=0.7, window=10)
    copy.load_state_dict(schedule.state_dict())
    assert copy.state_dict() == schedule.state_dict()


def test_a_deadline_that_nobody_can_meet_is_refused():
    schedule = Deadline(0.5, max_doublings=1)
    with pytest.raises(
        ConfigError, match=r"nobody can meet 0.5 s \(with max_doublings=1: 1 s\).*need 1.5 s .*deadline_s$"
    ):
        schedule.check_times(iter([2.0, 1.5]))
    with pytest.raises(ConfigError, match=r"nobody can meet 0.5 s: .*; raise deadline_s, or let max_doublings extend"):
        Deadline(0.5, max_doublings=0).check_times(iter([1.5]))
    read = []
    schedule.check_times(read.append(s) or s for s in (2.0, 1.0, 5.0))
    assert read == [2.0, 1.0]  # one is enough
    schedule.check_times(iter([]))  # the fleet doesn't tell
    Deadline(percentile=0.8).check_times(iter([9.0]))
    Deadline(0.5, max_doublings=5000).check_times(iter([9.0]))


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (lambda: Buffered(0), "buffer=0 never moves"),
        (lambda: OverSelection(10, 0.9), r"factor=0.9 of OverSelection is below 1"),
        (lambda: FixedFraction(fraction=0.0), r"fraction=0.0 of FixedFraction is outside \(0, 1\]"),
        (lambda: FixedFraction(late="lost"), "late='lost' is unknown"),
        (lambda: Deadline(0.0), "deadline_s=0.0 leaves no time"),
        (lambda: Deadline(percentile=1.5), r"percentile=1.5 is outside \(0, 1\]"),
        (lambda: Deadline(min_count=0), "min_count=0 of Deadline is below 1"),
        (lambda: Polynomial(-1.0), "a=-1.0 of a staleness weight"),
        (lambda: Hinge(b=math.nan), "b=nan of a staleness weight"),
    ],
)
def test_constants_out_of_range_are_refused(make, refusal):
    with pytest.raises(ConfigError, match=refusal):
        make()


def test_staleness_weights_at_the_papers_points():
    assert [Constant().discount(age) for age in (0, 7)] == [1.0, 1.0]
    assert [Polynomial().discount(age) for age in (0, 3, 8)] == pytest.approx([1.0, 1 / 2, 1 / 3])
    assert [Hinge().discount(age) for age in (0, 4, 5, 6)] == pytest.approx([1.0, 1.0, 1 / 11, 1 / 21])


SCHEDULES = [
    Synchronous,
    lambda count: OverSelection(count, 1.5),
    lambda count: FixedFraction(count, 0.5),
    lambda count: FixedFraction(count, 0.5, late="keep"),
    lambda count: FixedFraction(count, 0.5, late="cache"),
    lambda count: Deadline(2.0, count),
    lambda count: Deadline(2.0, count, min_count=count, late="keep"),
    lambda count: Deadline(None, count, percentile=0.5, late="cache"),
    lambda count: Buffered(2, count),
    lambda count: Buffered(1, count),
]


@given(
    number=st.integers(0, len(SCHEDULES) - 1),
    count=st.integers(1, 4),
    times=st.lists(st.floats(0.0, 20.0), min_size=6, max_size=6),
    lost=st.lists(st.one_of(st.none(), st.floats(0.0, 5.0)), min_size=6, max_size=6),
)
def test_whatever_is_lost_every_round_ends_and_every_job_has_one_end(number, count, times, lost):
    fleet = Fleet(6, times.__getitem__, lambda n: lost[n] if lost[n] is not None and lost[n] < times[n] else None)
    schedule, ended, last_s = SCHEDULES[number](count), [], 0.0
    schedule.check(6)
    for _ in range(4):
        finished = schedule.advance(fleet.clock, fleet.dispatch)
        assert all(job.lost_s is None for job in finished)
        assert all(job.finish_s <= fleet.clock.now_s for job in finished)
        assert [job.finish_s for job in finished] == sorted(job.finish_s for job in finished)
        assert fleet.clock.now_s >= last_s
        last_s = fleet.clock.now_s
        ended += [job.key for job in (*finished, *fleet.clock.take_lost())]
        fleet.round_idx += 1
    ended += [job.key for job in fleet.clock.jobs()]
    assert len(ended) == len(set(ended)) == len(fleet.sent)


@pytest.mark.parametrize("make", SCHEDULES)
def test_where_everyone_is_lost_or_nobody_is_up_a_round_is_empty(make):
    fleet = Fleet(5, lost=lambda client: 0.5)
    assert fleet.play(make(3), 2) == [[], []]
    schedule = make(3)
    schedule.check(5)
    assert schedule.advance(Clock(), lambda count: 0) == []
