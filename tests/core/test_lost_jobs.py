"""What a round cost, with jobs that were lost on the way."""

import pytest

from fedlight.core.round_record import RoundRecord
from fedlight.core.types import Job, Timing, Work

TIMING = Timing(1.0, 4.0, 2.0)


def job(lost_s, timing=TIMING):
    return Job(0, 0, 0.0, None, Work(80.0, 100, 40), timing, dispatched_s=10.0, lost_s=lost_s, cause="late")


@pytest.mark.parametrize(
    ("lost_s", "spent"),
    [
        (None, Work(80.0, 100, 40)),
        (10.0, Work(0.0, 0, 0)),
        (10.5, Work(0.0, 50, 0)),
        (12.0, Work(20.0, 100, 0)),
        (16.5, Work(80.0, 100, 30)),
    ],
)
def test_a_lost_job_costs_what_it_got_to(lost_s, spent):
    assert job(lost_s).spent == spent


def test_phases_that_take_no_time_are_done_when_those_before_are():
    assert job(11.0, Timing(0.0, 4.0, 0.0)).spent == Work(20.0, 100, 0)
    assert job(10.0, Timing(0.0, 0.0, 3.0)).spent == Work(80.0, 100, 0)


def test_lost_jobs_are_in_the_rounds_totals():
    scalars = RoundRecord(0, [], {}, 10.0, 16.5, 0.1, lost=[job(16.5), job(12.0)]).scalars()
    assert scalars["comm/downlink_bytes"] == 200
    assert scalars["comm/uplink_bytes"] == 30
    assert scalars["compute/macs"] == 100
    assert scalars["train/empty_round"] == 1
    assert scalars["fleet/lost/late"] == 2
