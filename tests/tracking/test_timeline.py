"""The numbers behind the timeline by hand and against a plain loop, and pictures that don't break."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.tracking.activity import measure
from fedlight.tracking.charts import draw_energy, draw_participation, draw_staleness, draw_waiting
from fedlight.tracking.history import History
from fedlight.tracking.jobs import AT_WORK, as_jobs
from fedlight.tracking.timeline import choose_rows, draw_timeline


def device(client):
    return ("fast", "slow")[client % 2]


def row(client, dispatched_s, phases, event_s=None, cause="", staleness=0, energy_j=0.0, aggregated_s=8.0):
    event_s = dispatched_s + sum(phases) if event_s is None else event_s
    return (
        0,
        client,
        device(client),
        dispatched_s,
        *phases,
        event_s,
        staleness,
        0.0,
        cause,
        energy_j,
        0.1,
        aggregated_s,
    )


def test_shares_of_time_by_hand():
    """Bins of 2 s: client 0 downloads 1 s, computes 2 s, uploads 1 s from 1 s on; 1 is lost after 1 s of computing."""
    jobs = as_jobs([row(0, 1.0, (1.0, 2.0, 1.0)), row(1, 0.0, (2.0, 4.0, 2.0), event_s=3.0, cause="dropped")])
    up = {0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2], 3: [0, 2]}
    activity = measure(jobs, np.array([0, 1]), (0.0, 8.0), 3, lambda now_s: up[int(now_s // 2)], 4)
    np.testing.assert_allclose(activity.phases[:, 0], [[0.5, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0]], atol=1e-12)
    np.testing.assert_allclose(activity.phases[:, 1], [[1, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(activity.offline, [[0, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(activity.totals, [[1.5, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0.5, 0]], atol=1e-12)
    np.testing.assert_allclose(activity.num_offline, [0, 0, 0, 1])


times = st.integers(0, 12).map(float)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), times, times, times, times, st.integers(0, 30)), max_size=8))
def test_totals_are_those_of_a_plain_loop(drawn):
    rows = [row(n, begin, (d, c, u), event_s=min(begin + d + c + u, begin + cut)) for n, begin, d, c, u, cut in drawn]
    activity = measure(as_jobs(rows), np.arange(4), (2.0, 22.0), 4, lambda now_s: range(4), 5)
    expected = np.zeros((3, 5))
    for _, begin, d, c, u, cut in drawn:
        start = begin
        for phase, seconds in enumerate((d, c, u)):
            for k in range(int(start), int(min(start + seconds, begin + cut))):  # whole seconds
                if 2 <= k < 22:
                    expected[phase, (k - 2) // 4] += 1 / 4
            start += seconds
    np.testing.assert_allclose(activity.totals, expected, atol=1e-9)
    np.testing.assert_allclose(activity.phases.sum(1), expected, atol=1e-9)


def test_rows_are_fast_classes_first_and_a_sample_of_many():
    jobs = as_jobs([row(0, 0.0, (1, 1, 1)), row(1, 0.0, (3, 3, 3)), row(2, 0.0, (0.5, 0, 0))])
    assert choose_rows(np.arange(5), jobs, device, 10).tolist() == [2, 0, 4, 1, 3]
    many = as_jobs([row(n, 0.0, (1.0 + n, 0, 0)) for n in range(100)])
    chosen = choose_rows(np.arange(100), many, device, 10).tolist()
    assert len(set(chosen)) == 10
    assert {device(n) for n in chosen} == {"fast", "slow"}
    assert choose_rows(np.arange(100), many, device, 64).size == 64


@pytest.mark.parametrize("num_clients", [1, 20, 1000])
def test_a_timeline_of_few_and_of_many(num_clients):
    rng = np.random.default_rng(0)
    causes = ["", "", "dropped", "left", "late", "rejected", "unheard of", AT_WORK]
    rows = [
        row(
            int(rng.integers(num_clients)),
            10.0 * t,
            tuple(rng.random(3) * 3),
            cause=causes[t % 8],
            aggregated_s=10.0 * t,
        )
        for t in range(100)
    ]
    picture = draw_timeline(as_jobs(rows), (0.0, 1000.0), "title", num_clients, lambda now_s: [0], device, 64)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] <= 1430


def test_no_time_no_timeline():
    assert draw_timeline(as_jobs([]), (3.0, 3.0), "title", 2, lambda now_s: range(2), device, 64) is None
    assert draw_timeline(as_jobs([]), (0.0, 3.0), "title", 2, lambda now_s: [], device, 64) is not None


def test_what_a_run_does_not_have_is_not_drawn():
    jobs = as_jobs([row(0, 0.0, (1, 1, 1)), row(1, 0.0, (1, 1, 1), cause="left", staleness=3)])
    assert draw_staleness(jobs) is None  # the one that was late never came back
    assert draw_energy(jobs) is None
    assert draw_participation(jobs, 5, device) is not None
    history = History()
    history.record(0, {"waiting": 0.0, "end_s": 0.0})
    assert draw_waiting(history) is None
    history.record(1, {"waiting": 0.5, "end_s": 4.0})
    assert draw_waiting(history) is not None


def test_many_device_classes_share_a_colour():
    rows = [row(n, float(n), (1, 1, 1), staleness=n % 3, energy_j=1e6) for n in range(30)]
    jobs = as_jobs(rows)
    jobs["device"] = [f"kind {n}" for n in range(30)]
    assert draw_staleness(jobs) is not None
    assert draw_energy(jobs) is not None
