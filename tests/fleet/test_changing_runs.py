"""Whole runs on a fleet that changes along all axes: they end, they repeat, and they resume bit for bit."""

from itertools import pairwise

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from toy import Regressor, ToyData

from fedlight.algorithms import FedBuff, FedLight, SpeedRatio
from fedlight.core import Server
from fedlight.errors import ConfigError
from fedlight.fleet import (
    BackgroundLoad,
    ChangingFleet,
    Connectivity,
    Daily,
    DeviceClass,
    DeviceFleet,
    Drift,
    Drops,
    JoinLeave,
    PartialWork,
    SpeedStep,
    TraceAvailability,
)

ALGORITHMS = {
    "waits": FedLight,
    "doesn't wait": lambda: FedBuff(buffer=2, concurrency=3),
    "learns times": lambda: SpeedRatio(round_to=1, clients_per_round=2),
}


def weather(**axes):
    """Four clients whose jobs take about a second."""
    devices = DeviceFleet([DeviceClass("fast", 1, 1e4, 1e4, 1e4, noise=0.1), DeviceClass("slow", 1, 5e3, 5e3, 5e3)])
    return ChangingFleet(
        devices,
        **{
            "availability": [Daily(0.7, day_s=9.0), JoinLeave(interval_s=4.0, leave=0.1)],
            "connectivity": Drops(0.2),
            "completeness": PartialWork(0.4, low=0.3),
            "responsiveness": [Drift(2.0, link_std=0.1), BackgroundLoad(2.0), SpeedStep(6.0, clients=[1])],
            **axes,
        },
    )


class Diary(Callback):
    """What every round did."""

    def __init__(self):
        self.lines = []

    def on_train_epoch_end(self, trainer, server):
        record = server.last_round
        told = [(one.client, one.share, one.ratio, one.finish_s) for one in record.reports]
        lost = [(job.client, job.lost_s, job.cause) for job in record.lost]
        flying = [(job.client, job.finish_s) for job in record.in_flight]
        self.lines.append((record.round_idx, record.end_s, told, lost, flying))


def run(folder, rounds, algorithm, fleet=None, resume=None, state_ttl_s=None):
    torch.manual_seed(0)
    server, diary = (
        Server(Regressor(), ALGORITHMS[algorithm](), fleet or weather(), seed=3, state_ttl_s=state_ttl_s),
        Diary(),
    )
    trainer = pl.Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        enable_checkpointing=False,
        callbacks=[diary],
    )
    trainer.fit(server, datamodule=ToyData(), ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return server, diary.lines


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_in_all_weathers_resumes_bit_for_bit(algorithm, tmp_path):
    straight, lines = run(tmp_path / "straight", 14, algorithm)
    run(tmp_path / "halves", 6, algorithm)
    resumed, later = run(tmp_path / "resumed", 14, algorithm, resume=tmp_path / "halves" / "last.ckpt")
    assert later == lines[6:]
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    causes = {cause for _, _, _, lost, _ in lines for _, _, cause in lost}
    assert causes == {"left", "dropped"}
    assert any(share < 1 for _, _, told, _, _ in lines for _, share, _, _ in told)
    assert all(before[1] <= after[1] for before, after in pairwise(lines))


def test_a_result_counts_only_if_its_client_is_still_up(tmp_path):
    server, lines = run(tmp_path, 10, "waits")
    fleet = server.fleet
    for _, _, told, _, _ in lines:
        for client, _, _, finish_s in told:
            assert client in fleet.candidates(finish_s - 1e-9)


def test_what_a_leaver_left_expires(tmp_path):
    """Long after its last update nothing of a client is kept; who has been back lately is known."""
    _, lines = run(tmp_path / "kept", 12, "learns times")
    server, _ = run(tmp_path / "expired", 12, "learns times", state_ttl_s=1.5)
    seen = {client for _, _, told, _, _ in lines for client, *_ in told}
    known = set(server.algorithm.ratio.state_dict()["model"]["clients"].tolist())
    assert known < seen
    assert set(server.expiry.state_dict()["heard_s"]) == known


def test_a_buffered_server_sends_off_who_comes_up_while_others_are_at_work(tmp_path):
    """Client 1 comes at 0.05 s, long before anybody is back, and two of the three places are free."""
    path = tmp_path / "late.csv"
    path.write_text("trace,up_s,down_s\n0,0,1000\n1,0.05,1000\n2,500,1000\n3,500,1000\n")
    axes = {"connectivity": None, "completeness": None, "responsiveness": None}
    fleet = weather(availability=TraceAvailability(str(path), shuffle=False), **axes)
    server, _ = run(tmp_path / "run", 1, "doesn't wait", fleet)
    reports = server.last_round.reports
    assert {one.client: one.finish_s - one.timing.total_s for one in reports} == pytest.approx({0: 0.0, 1: 0.05})


class Cut(Connectivity):
    """Client 0 never gets anything back to the server."""

    def setup(self, num_clients, seed):
        pass

    def drop_s(self, departure, timing):
        return timing.total_s / 2 if departure.client == 0 else None


def test_what_was_drawn_for_a_client_that_never_came_back_expires(tmp_path):
    """Its map is drawn as it is sent off; the server never hears from it, and forgets it like everybody."""
    axes = {"availability": None, "connectivity": Cut(), "completeness": None, "responsiveness": None}
    server, lines = run(tmp_path, 4, "waits", weather(**axes), state_ttl_s=1e9)
    assert 0 in {client for _, _, _, lost, _ in lines for client, _, _ in lost}
    assert 0 not in {client for _, _, told, _, _ in lines for client, *_ in told}
    assert 0 in server.algorithm.extraction.state_dict()["clients"]
    server._forget(server.expiry.expired(server.clock.now_s + 2e9, server.clock.busy))
    assert not len(server.algorithm.extraction.state_dict()["clients"])


def test_a_fleet_in_which_nobody_is_ever_up_is_refused(tmp_path):
    path = tmp_path / "never.json"
    path.write_text('{"1": {"active": [], "inactive": [], "finish_time": 20}}')
    with pytest.raises(ConfigError, match=r"model\.fleet: no client of ChangingFleet is ever up"):
        run(tmp_path / "run", 1, "waits", weather(availability=TraceAvailability(str(path))))
