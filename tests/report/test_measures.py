import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import round_scalars, write_config, write_log

from fedlight.errors import ConfigError, DataError
from fedlight.report.log import read_log
from fedlight.report.measures import Metric, choose, measure, read_curve
from fedlight.report.pictures import band, front, step_at
from fedlight.report.runs import find_runs

ACCURACY, LOSS = Metric("val/accuracy", "max"), Metric("val/loss", "min")


def measured(tmp_path, targets, accuracy, seconds, common_s=None, metric=ACCURACY, **more):
    write_log(write_config(tmp_path / "run" / "version_0"), round_scalars(accuracy, seconds, **more))
    (run,) = find_runs([tmp_path / "run"])
    log = read_log([run])
    curve = read_curve(run, log, metric)
    return measure(curve, log, metric, targets, curve.end_s if common_s is None else common_s)


def test_first_crossing_counts_even_if_the_run_falls_back(tmp_path):
    row = measured(tmp_path, (0.5, 0.6), [0.2, 0.55, 0.4, 0.61], [10.0, 25.0, 30.0, 45.0])
    assert row.reached_s == (25.0, 45.0)
    assert row.reached_wall_s == (2.0, 4.0)


def test_a_tie_reaches_the_target_although_logs_are_single_precision(tmp_path):
    # 0.7 is stored as 0.69999999.
    assert float(np.float32(0.7)) < 0.7
    assert measured(tmp_path, (0.7,), [0.5, 0.7], [1.0, 2.0]).reached_s == (2.0,)


def test_a_target_that_is_never_reached_has_no_time(tmp_path):
    row = measured(tmp_path, (0.7,), [0.5, 0.6999], [1.0, 2.0])
    assert row.reached_s == (None,)
    assert row.reached_wall_s == (None,)


def test_a_loss_gets_better_downwards(tmp_path):
    losses = {"val/loss": [2.0, 0.9, 1.5]}
    row = measured(tmp_path, (1.0,), [0.1] * 3, [1.0, 2.0, 3.0], metric=LOSS, **losses)
    assert row.reached_s == (2.0,)
    assert row.best == pytest.approx(0.9)


def test_final_is_the_mean_of_the_last_five_rounds_within_the_common_time(tmp_path):
    accuracy = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8]
    row = measured(tmp_path, (), accuracy, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], common_s=6.0)
    assert row.final == pytest.approx(0.3)
    assert row.best == pytest.approx(0.9)
    assert row.end_final == pytest.approx(0.44)
    assert (row.num_rounds, row.end_s) == (7, 7.0)


def test_no_round_within_the_common_time_gives_no_value(tmp_path):
    row = measured(tmp_path, (), [0.5, 0.6], [10.0, 20.0], common_s=5.0)
    assert (row.final, row.best, row.waiting) == (None, None, None)
    # Nothing had been spent: a mean over seeds counts it as that.
    assert row.costs == {"uplink_bytes": 0.0, "downlink_bytes": 0.0, "macs": 0.0}


def test_costs_add_up_within_the_common_time(tmp_path):
    row = measured(tmp_path, (), [0.5] * 4, [1.0, 2.0, 3.0, 4.0], common_s=3.5, **{"fleet/energy_j": [2.0] * 4})
    assert row.costs == pytest.approx({"uplink_bytes": 3e6, "downlink_bytes": 9e6, "macs": 3e9, "energy_j": 6.0})
    assert row.wall_s == pytest.approx(4.0)


def test_waiting_is_a_share_of_time_not_of_rounds(tmp_path):
    # One second of all, nine of none.
    row = measured(tmp_path, (), [0.5] * 2, [1.0, 10.0], **{"time/waiting_share": [1.0, 0.0]})
    assert row.waiting == pytest.approx(0.1)


def test_rounds_logged_twice_count_once_as_the_resumed_run_has_them(tmp_path):
    folder = write_config(tmp_path / "run" / "version_0")
    write_log(folder, round_scalars([0.1, 0.2, 0.9], [1.0, 2.0, 3.0]))
    events = next(folder.glob("events*"))
    events.rename(events.with_name("events.out.tfevents.1.a"))
    write_log(folder, round_scalars([0.3, 0.4], [3.0, 4.0]), first_round=2)
    (run,) = find_runs([tmp_path / "run"])
    curve = read_curve(run, read_log([run]), ACCURACY)
    assert curve.values == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert curve.wall_s.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert curve.sent_bytes.tolist() == [4e6, 8e6, 12e6, 16e6]


def test_a_metric_measured_every_other_round_keeps_its_rounds(tmp_path):
    folder = write_config(tmp_path / "run" / "version_0")
    scalars = round_scalars([0.0] * 4, [1.0, 2.0, 3.0, 4.0])
    del scalars["val/accuracy"]
    write_log(folder, scalars)
    write_log(folder / "more", {"val/accuracy": [0.5]}, first_round=1)
    write_log(folder / "most", {"val/accuracy": [0.7]}, first_round=3)
    (run,) = find_runs([folder])
    curve = read_curve(run, read_log([run]), ACCURACY)
    assert curve.rounds.tolist() == [1.0, 3.0]
    assert curve.simulated_s.tolist() == [2.0, 4.0]
    assert curve.sent_bytes.tolist() == [8e6, 16e6]


def test_metric_is_chosen_as_runs_are_watched_and_refused_by_name(tmp_path):
    write_log(write_config(tmp_path / "a" / "version_0"), round_scalars([0.5], [1.0], **{"val/loss": [1.0]}))
    write_log(write_config(tmp_path / "b" / "version_0", seed=1), round_scalars([0.5], [1.0]))
    log = read_log(find_runs([tmp_path]))
    assert choose(log, None) == ACCURACY
    with pytest.raises(ConfigError, match="no run has logged val/f1; --metric takes val/accuracy or val/loss"):
        choose(log, "val/f1")
    with pytest.raises(DataError, match="SynFL · seed 1 has not logged val/loss"):
        choose(log, "val/loss")


def test_log_is_tidy(tmp_path):
    write_log(write_config(tmp_path / "a" / "version_0", "FedMP", 3), round_scalars([0.5, 0.25], [1.5, 2.5]))
    log = read_log(find_runs([tmp_path]))
    assert list(log.columns) == ["run", "label", "cell", "seed", "round", "simulated_s", "wall_s", "tag", "value"]
    line = log[(log["tag"] == "val/accuracy") & (log["round"] == 1)].iloc[0]
    assert line.tolist() == ["FedMP · seed 3", "FedMP", "", 3, 1, 2.5, 2.0, "val/accuracy", 0.25]


def test_a_log_without_simulated_time_is_refused(tmp_path):
    write_log(tmp_path / "foreign", {"val/accuracy": [0.5]})
    with pytest.raises(DataError, match=r"foreign has logged no time/simulated_s.*leave the run out"):
        read_log(find_runs([tmp_path]))


rising = st.lists(st.floats(0.1, 5.0), min_size=1, max_size=8).map(lambda steps: np.cumsum(steps))


@given(rising, st.floats(0, 50))
def test_step_function_has_the_last_value_before(positions, at):
    values = np.arange(len(positions), dtype=float)
    before = [value for value, position in zip(values, positions, strict=True) if position <= at]
    found = step_at(np.array([at]), positions, values)[0]
    assert found == before[-1] if before else np.isnan(found)


def test_band_goes_as_far_as_all_seeds_go(tmp_path):
    for seed, seconds in enumerate(([1.0, 4.0, 6.0], [2.0, 3.0, 9.0])):
        write_log(write_config(tmp_path / f"{seed}" / "version_0", seed=seed), round_scalars([0.1, 0.2, 0.3], seconds))
    runs = find_runs([tmp_path])
    log = read_log(runs)
    curves = [read_curve(run, log[log["run"] == run.name], ACCURACY) for run in runs]
    places, values = band(curves, lambda curve: curve.simulated_s)
    assert places.tolist() == [2.0, 3.0, 4.0, 6.0]
    assert values == pytest.approx(np.array([[0.1, 0.1, 0.2, 0.3], [0.1, 0.2, 0.2, 0.2]]))


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=4))
def test_front_is_as_good_as_the_best_so_far_and_never_gets_worse(rows):
    tops = np.maximum.accumulate(np.array(rows), axis=1)
    best, holder = front(tops, "max")
    assert best.tolist() == np.maximum.accumulate(tops.max(axis=0)).tolist()
    assert all(tops[who, place] == best[place] for place, who in enumerate(holder))


def test_front_is_held_by_who_was_there_first():
    best, holder = front(np.array([[np.nan, 0.5, 0.5], [0.3, 0.5, 0.6]]), "max")
    assert (best.tolist(), holder.tolist()) == ([0.3, 0.5, 0.6], [1, 0, 1])
