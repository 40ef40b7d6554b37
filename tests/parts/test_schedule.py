import itertools

import pytest

from fedlight.core.clock import Clock
from fedlight.core.slots import Schedule
from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.parts.schedule import Synchronous


class Buffered(Schedule):
    """FedBuff's clock: ``concurrency`` clients at work, the server moves on every ``size`` returns."""

    def __init__(self, size: int, concurrency: int) -> None:
        self.size = size
        self.concurrency = concurrency

    def check(self, num_clients: int) -> None:
        assert self.concurrency <= num_clients

    def advance(self, clock, dispatch):
        finished = []
        for _ in range(self.size):
            dispatch(self.concurrency - len(clock))
            finished.append(clock.next_return())
        return finished


class Fleet:
    """Client n takes n + 1 seconds; the lowest idle numbers go first."""

    def __init__(self, num_clients: int) -> None:
        self.clock = Clock()
        self.num_clients = num_clients
        self.round_idx = 0
        self.sent = []

    def dispatch(self, count: int) -> None:
        busy = {job.client for job in self.clock.jobs()}
        for client in itertools.islice((n for n in range(self.num_clients) if n not in busy), count):
            self.sent.append(client)
            self.clock.push(
                Job(
                    client, self.round_idx, 0.0, None, Work(0.0, 0, 0), Timing(0.0, client + 1.0, 0.0), self.clock.now_s
                )
            )


def test_synchronous_waits_for_the_slowest_and_returns_in_order():
    fleet, schedule = Fleet(10), Synchronous(clients_per_round=4)
    schedule.check(10)
    for round_idx in range(2):
        assert [job.client for job in schedule.advance(fleet.clock, fleet.dispatch)] == [0, 1, 2, 3]
        assert fleet.clock.now_s == 4.0 * (round_idx + 1)
        assert len(fleet.clock) == 0


def test_synchronous_takes_the_whole_fleet_by_default():
    fleet, schedule = Fleet(5), Synchronous()
    schedule.check(5)
    assert len(schedule.advance(fleet.clock, fleet.dispatch)) == 5


def test_synchronous_returns_nothing_when_nobody_is_up():
    schedule = Synchronous(clients_per_round=2)
    schedule.check(5)
    assert schedule.advance(Clock(), lambda count: None) == []


def test_a_cohort_larger_than_the_fleet_is_refused():
    with pytest.raises(ConfigError, match=r"clients_per_round=21 is larger than the fleet of num_clients=20.*lower"):
        Synchronous(clients_per_round=21).check(20)
    with pytest.raises(ConfigError, match="clients_per_round=0 trains nobody"):
        Synchronous(clients_per_round=0).check(20)


def test_a_schedule_that_does_not_wait_fits_the_same_seam():
    fleet, schedule = Fleet(10), Buffered(size=2, concurrency=3)
    schedule.check(10)
    first = schedule.advance(fleet.clock, fleet.dispatch)
    # 0, 1, 2 start at 0; 0 is back at 1 and starts again, back at 2 together with 1, which was sent first
    assert [(job.client, job.finish_s) for job in first] == [(0, 1.0), (1, 2.0)]
    assert len(fleet.clock) == 2
    fleet.round_idx = 1
    second = schedule.advance(fleet.clock, fleet.dispatch)
    assert [(job.client, job.finish_s) for job in second] == [(0, 2.0), (2, 3.0)]
    assert [1 - job.round_idx for job in second] == [1, 1]  # staleness: both were sent for version 0
    assert fleet.clock.now_s == 3.0
