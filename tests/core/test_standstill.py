"""Runs that can't go on: nobody comes back, nobody's memory holds anything, time stands still."""

import lightning.pytorch as pl
import numpy as np
import pytest
from federation import Small, Speeds, five_clients, run

from fedlight.algorithms import FedAvg, PruneFL
from fedlight.core import Server
from fedlight.core.clock import Clock
from fedlight.core.standstill import Standstill
from fedlight.core.types import Job, Timing, Work
from fedlight.errors import ConfigError
from fedlight.fleet import Availability, ChangingFleet, Homogeneous
from fedlight.tracking import StopAt


class Once(Availability):
    """Everybody is up for the first 20 ms, and never again."""

    def setup(self, num_clients, seed):
        pass

    def status(self, clients, now_s):
        up = now_s < 0.02
        return up, np.where(up, 0.02, np.inf)


def test_a_run_ends_where_nobody_will_ever_come_back(capsys):
    server = run(FedAvg(), rounds=30, fleet=ChangingFleet(Homogeneous(1e8, 1e7), availability=Once()))
    assert 1 < server.round_idx < 30
    assert server.clock.now_s == pytest.approx(0.02)
    lines = [line for line in capsys.readouterr().out.splitlines() if "the run ends here" in line]
    assert lines == [
        f"round {server.round_idx}: at 0.02 simulated s no client is up and none will come back; the run ends here"
    ]
    assert server.last_round.end_s == server.clock.now_s


class Holding(Speeds):
    """Memory holds a submodel of at most so many parameters."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters = parameters

    def fits(self, client, cost):
        return cost.parameters <= self.parameters


@pytest.mark.parametrize(
    ("algorithm", "holds", "what"),
    [
        # One channel: a convolution of 9 + 1, its norm's 2, and 3 + 3 in the head.
        (FedAvg, 17, r"the smallest submodel of FedAvg \(18 parameters\)"),
        # 160 + 32 + 51: all of it.
        (PruneFL, 242, r"what PruneFL begins with \(243 parameters\)"),
    ],
)
def test_a_fleet_whose_memory_holds_nothing_is_refused(algorithm, holds, what):
    with pytest.raises(ConfigError, match=f"^model.fleet: no client's memory_bytes holds the training of {what}"):
        run(algorithm(), fleet=Holding(holds))
    assert run(algorithm(), rounds=1, fleet=Holding(243)).last_round.reports


class Shrinking(Holding):
    """The memory that was there when the run began is gone."""

    def timing(self, client, work, round_idx):
        self.parameters = 0
        return super().timing(client, work, round_idx)


def test_a_run_in_which_no_time_can_pass_ends(capsys):
    """Only a simulated time would end it, and that never comes."""
    server = Server(Small(), FedAvg(), Shrinking(243))
    trainer = pl.Trainer(
        max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, use_distributed_sampler=False,
        callbacks=[StopAt(simulated_s=1e9)],
    )  # fmt: skip
    trainer.fit(server, datamodule=five_clients())
    told = capsys.readouterr().out.splitlines()
    unfit = [line for line in told if "memory holds no submodel that they may get" in line]
    assert len(unfit) == 1
    assert "train/empty_round counts such rounds" in "".join(told)
    assert told[-1].endswith(
        "no time has passed for 100 rounds (5 clients unfit for lack of memory); the run ends here"
    )


def job(lost_s=None):
    return Job(0, 0, 0.0, None, Work(1.0, 1, 1), Timing(1.0, 1.0, 1.0), dispatched_s=0.0, lost_s=lost_s)


def test_what_is_told_of_a_round_and_when_time_stands_still():
    clock, still = Clock(), Standstill(11)
    assert still.watch(0, 0.0, clock, 1, (), False) == []
    clock.push(job(0.5))
    clock.next_return()
    lines = still.watch(1, 0.0, clock, 0, tuple(reversed(range(10))), False)
    assert lines[0].startswith("round 2: left out 10 clients whose memory")
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 2 more" in lines[0]
    assert "no result came back (1 lost, 0 at work, 10 unfit)" in lines[1]
    assert not any(still.watch(idx, 0.5, clock, 0, (), False) for idx in range(2, 111))
    assert still.watch(111, 0.5, clock, 1, (), False) == []  # somebody came: counting begins anew
    assert not any(still.watch(idx, 0.5, clock, 0, (), False) for idx in range(112, 221))
    assert not still.is_over
    (line,) = still.watch(221, 0.5, clock, 0, (), False)  # ten rounds for each of the eleven clients
    assert "no time has passed for 110 rounds" in line
    assert still.is_over
