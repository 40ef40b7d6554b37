"""Every algorithm under every schedule, on a fleet that loses jobs: it runs, resumes, and two processes share it."""

import subprocess
import sys

import federation
import pytest
import torch
from federation import SCHEDULES, LosingSpeeds, Speeds, five_clients, run, under
from same import assert_close, equal

import fedlight.algorithms
from fedlight.algorithms import FedAvg, FedBuff
from fedlight.errors import ConfigError
from fedlight.parts import Buffered, CoverageMean, Deadline, FixedFraction, SampleCount

NAMES = list(fedlight.algorithms.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_runs_under_every_schedule(name):
    for schedule in SCHEDULES:
        server = run(under(name, schedule), rounds=3, fleet=LosingSpeeds())
        assert server.round_idx == 3, schedule
        assert all(value.isfinite().all() for value in server.state_dict().values()), schedule


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_it_resumes_bit_for_bit_with_jobs_in_flight(name, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    server = run(under(name, "buffer of 2"), fleet=LosingSpeeds(), folder=whole)
    assert len(server.clock) >= 2 or name == "PruneFL"  # which begins with rounds of one client
    run(under(name, "buffer of 2"), fleet=LosingSpeeds(), folder=resumed, resume=whole / "step=2.ckpt")
    one, other = (torch.load(folder / "step=4.ckpt", weights_only=True) for folder in (whole, resumed))
    for key in ("state_dict", "optimizer_states", "fedlight"):
        assert equal(one[key], other[key]), key


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("FedAsync", "FedBuff")])
def test_every_algorithm_takes_a_schedule_in_place_of_a_cohort(name):
    make, schedule = getattr(fedlight.algorithms, name), Deadline(2.0)
    assert make(schedule=schedule).schedule is schedule
    with pytest.raises(ConfigError, match="clients_per_round and schedule both"):
        make(schedule=schedule, clients_per_round=2)


def test_two_processes_equal_one(tmp_path):
    command = [sys.executable, federation.__file__, str(tmp_path / "weights.pt"), "--processes", "2", "--late"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    shared, own = torch.load(tmp_path / "weights.pt", weights_only=True), federation.run_all_late()
    assert list(shared) == list(own)
    for name, weights in own.items():
        assert float(shared[name]["now_s"]) == float(weights["now_s"])
        assert equal(shared[name], weights), name


@pytest.mark.parametrize("schedule", [Deadline(None), FixedFraction(fraction=1.0)])
def test_at_its_limit_a_schedule_is_synchronous(schedule):
    algorithm = FedAvg()
    algorithm.schedule = schedule
    assert_close(run(algorithm).state_dict(), run(FedAvg()).state_dict())


@pytest.mark.parametrize("aggregation", [None, CoverageMean()])
def test_with_a_buffer_for_all_and_equal_times_fedbuff_is_fedavg(aggregation, monkeypatch):
    monkeypatch.setattr(Speeds, "timing", lambda *_: federation.Timing(0.0, 0.0, 0.0))
    algorithm = FedBuff(buffer=5)
    algorithm.aggregation = aggregation or algorithm.aggregation
    fedavg = FedAvg()
    assert_close(
        run(algorithm, data=five_clients(equal=True)).state_dict(),
        run(fedavg, data=five_clients(equal=True)).state_dict(),
    )
    weighted = FedAvg()
    weighted.schedule, weighted.aggregation = Buffered(5), aggregation or FedBuff().aggregation
    assert isinstance(weighted.contribution, SampleCount)
    assert_close(run(weighted).state_dict(), run(FedAvg()).state_dict())
