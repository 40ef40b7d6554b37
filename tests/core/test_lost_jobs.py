"""What a round cost, with jobs that were lost on the way."""

import lightning.pytorch as pl
import pytest
import torch
from same import equal
from toy import Regressor, ToyData, ToyFleet

from fedlight.algorithms import FedAvg
from fedlight.core.fleet import Fate
from fedlight.core.round_record import RoundRecord
from fedlight.core.server import Server
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


class LostFrom(ToyFleet):
    """From the third round on nobody's result comes back."""

    def fate(self, departure, work):
        timing = self.timing(departure.client, work, departure.round_idx)
        return Fate(timing, departure.now_s + 0.5, "dropped") if departure.round_idx >= 2 else Fate(timing)


@pytest.mark.parametrize("optimizer", [lambda p: torch.optim.SGD(p, 1.0, momentum=0.9), lambda p: torch.optim.Adam(p)])
def test_momentum_does_not_carry_a_model_on_that_nobody_trains(optimizer):
    states = []
    for rounds in (2, 4):
        torch.manual_seed(0)
        server = Server(Regressor(), FedAvg(), LostFrom(), server_optimizer=optimizer)
        trainer = pl.Trainer(
            max_epochs=rounds, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(server, datamodule=ToyData())
        assert trainer.global_step == rounds
        states.append(server.state_dict())
    assert equal(*states)
