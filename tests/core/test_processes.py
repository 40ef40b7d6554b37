"""The cohort is shared out completely, once, and evenly by predicted cost."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.processes import Processes
from fedlight.core.types import Job, Timing, Work


def job(client, macs, update=None):
    return Job(client, 0, 0.0, None, Work(macs, 0, 0), Timing(0, 1, 0), 0.0, update)


@pytest.fixture
def as_rank(monkeypatch):
    def share(jobs, rank, world_size):
        monkeypatch.setattr(Processes, "rank", property(lambda _: rank))
        monkeypatch.setattr(Processes, "world_size", property(lambda _: world_size))
        return Processes().share(jobs)

    return share


def test_one_process_does_everything_in_order():
    jobs = [job(client, 1.0) for client in (3, 1, 2)]
    assert Processes().share(jobs) == jobs


@given(costs=st.lists(st.floats(1, 1e9), max_size=30), world_size=st.integers(2, 5))
def test_every_job_has_one_process_and_no_process_is_overloaded(costs, world_size):
    jobs = [job(client, cost) for client, cost in enumerate(costs)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "world_size", property(lambda _: world_size))
        shares = []
        for rank in range(world_size):
            patch.setattr(Processes, "rank", property(lambda _, rank=rank: rank))
            shares.append(Processes().share(jobs))
    assert sorted(one.client for share in shares for one in share) == list(range(len(costs)))
    if costs:
        loads = [sum(one.work.macs for one in share) for share in shares]
        # The last job on the fullest process was put there when it was the emptiest one.
        assert max(loads) <= sum(costs) / world_size + max(costs) + 1e-6 * sum(costs)


def test_largest_jobs_are_placed_first(as_rank):
    jobs = [job(client, cost) for client, cost in enumerate([3.0, 3.0, 2.0, 2.0, 2.0])]
    # By hand: 3 | 3, then 2 to the first, 2 to the second, 2 to the first again.
    assert [one.client for one in as_rank(jobs, 0, 2)] == [0, 2, 4]
    assert [one.client for one in as_rank(jobs, 1, 2)] == [1, 3]


def test_updates_that_are_known_cost_nothing(as_rank):
    known = SimpleNamespace()
    jobs = [job(0, 9.0, known), job(1, 1.0), job(2, 1.0)]
    assert len([one for one in as_rank(jobs, 0, 2) if one.update is None]) == 1
